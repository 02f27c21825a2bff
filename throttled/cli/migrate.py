"""`throttled migrate`."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, field

from throttled import address
from throttled.analysis.fail2ban import advice, bans, jails
from throttled.analysis.fail2ban.bans import OldBan
from throttled.analysis.fail2ban.files import expressions
from throttled.analysis.fail2ban.jails import Fail2ban, Jail
from throttled.analysis.fail2ban.simulate import Simulation
from throttled.analysis.replay import Replay
from throttled.cli import output
from throttled.cli.daemon import config, facts, own_logs
from throttled.cli.options import Command, json_option, zone_option
from throttled.cli.progress import progress
from throttled.errors import SourceError, UsageError
from throttled.host.zone import local_zone

_TIMEOUT = 120.0
_SHOWN = 10


class Side(Struct):
    """Whom one of the two would have banned on the log."""

    banned: int
    good: list[str] = field(default_factory=list)  # of these, who delivered mail or logged in


class Comparison(Struct):
    """Both on the same log."""

    lines: int
    fail2ban: Side
    throttled: Side
    only_fail2ban: int  # clients that only fail2ban would have banned
    both: int


class Migration(Struct):
    """What `migrate` found."""

    jails: dict[str, str]  # what becomes of each
    toml: str
    bans: list[OldBan] | None  # None: not known
    comparison: Comparison | None = None
    notes: list[str] = field(default_factory=list)  # what could not be read


@click.command(
    cls=Command,
    examples=(
        "throttled migrate fail2ban",
        "throttled migrate fail2ban --only bans | throttled import -",
        "throttled migrate fail2ban --only toml > fail2ban.toml",
        "throttled migrate fail2ban --directory ./old/fail2ban --no-compare",
    ),
)
@click.argument("source", type=click.Choice(("fail2ban",)))
@click.argument("files", metavar="[FILE]…", nargs=-1)
@click.option(
    "--directory",
    default="/etc/fail2ban",
    show_default=True,
    metavar="PATH",
    help="fail2ban's configuration.",
)
@click.option("--database", metavar="PATH", help="Its database (default: as configured).")
@click.option("--compare/--no-compare", default=True, help="Compare both on this host's log.")
@click.option("--only", type=click.Choice(("toml", "bans")), help="Print only this.")
@zone_option
@json_option
def command(  # noqa: PLR0913 - the words of the command
    *,
    source: str,
    files: tuple[str, ...],
    directory: str,
    database: str | None,
    compare: bool,
    only: str | None,
    zone: tzinfo | None,
    as_json: bool,
) -> None:
    """Show what of fail2ban's configuration and bans becomes what here; change nothing.

    Reads fail2ban's jails and ignoreip as fail2ban does (with fail2ban-client where it is
    installed, else their files), and the active bans of all mail jails from its database. Prints
    what becomes of each jail, a file for /etc/throttled/throttled.d, and the bans as a list for
    throttled import.

    Then both run on the same log: this host's, or FILE: whom would fail2ban's own filters have
    banned, whom this configuration, and who of them delivered mail or logged in? Clients that
    fail2ban banned while the log was written have fewer lines in it.
    """
    del source
    notes: list[str] = []
    found = _configuration(directory, notes)
    mail = [jail for jail in found.jails.values() if jail.mail]
    postfix = [jail for jail in mail if jail.postfix]
    toml = advice.configuration(postfix)
    old: list[OldBan] | None = None
    try:
        old = [] if only == "toml" else _bans(database or found.database, mail)
    except SourceError as error:
        if only == "bans":
            raise
        notes.append(f"{error.message}; {error.hint}")
    result = Migration(dict(advice.fates(found.jails.values())), toml, old, notes=notes)
    if compare and only is None and postfix and found.filters:
        result.comparison = _compare(postfix, files, zone)
    if as_json:
        output.print_json(result)
        return
    for note in notes:
        click.echo(output.printable(f"throttled: {note}"), err=True)
    lines = {
        "toml": [toml.rstrip()],
        "bans": advice.bans(old or [], time.time()),
        None: _text(result),
    }
    for line in lines[only]:
        click.echo("\n".join(map(output.printable, line.split("\n"))))


def _configuration(directory: str, notes: list[str]) -> Fail2ban:
    """Return what fail2ban is configured to do, as it says itself, else from its files.

    Raises:
        UsageError: there is none.
    """
    if not Path(directory).is_dir():
        hint = "name fail2ban's configuration with --directory"
        raise UsageError(f"{directory} is no directory", hint)
    try:
        done = subprocess.run(
            ["fail2ban-client", "-c", directory, "-d"],
            capture_output=True,
            check=False,
            timeout=_TIMEOUT,
        )
        dump = jails.dumped(done.stdout.decode("utf-8", "replace"))
        if done.returncode == 0:
            return dump
        what = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        notes.append(f"fail2ban-client cannot read {directory}: {what}")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        notes.append(f"fail2ban-client cannot be used ({error}); reading the files in {directory}")
    try:
        found = jails.configured(_texts(Path(directory)))
    except (OSError, ValueError) as error:
        raise UsageError(f"{directory}: {error}", "name fail2ban's configuration") from error
    try:
        for jail in found.jails.values():
            if jail.postfix:
                made = expressions(jail.filter or jail.name, partial(_filter, directory))
                jail.prefix, jail.fails, jail.ignored = made.prefix, made.fails, made.ignored
    except (OSError, ValueError) as error:
        notes.append(f"{directory}: {error}; nothing is compared")
        found.filters = False
    return found


def _filter(directory: str, name: str) -> str:
    """Return the text of a file in filter.d; "" where there is none."""
    path = Path(directory) / "filter.d" / name
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _texts(directory: Path) -> Iterator[str]:
    """Yield the files of jails in fail2ban's order (jail.conf(5)).

    Raises:
        ValueError: one is none; names it.
    """
    for kind in ("conf", "local"):
        for path in chain(
            [directory / f"jail.{kind}"], sorted((directory / "jail.d").glob(f"*.{kind}"))
        ):
            if path.exists():
                text = path.read_text("utf-8-sig", "replace")
                try:
                    jails.read([text])
                except ValueError as error:
                    raise ValueError(f"{path.relative_to(directory)}: {error}") from error
                yield text


def _bans(path: str, mail: list[Jail]) -> list[OldBan]:
    """Return the active bans of jails.

    Raises:
        SourceError: fail2ban has no database, or it cannot be read.
    """
    if path in {"None", ":memory:"}:
        raise SourceError("fail2ban has no database", "its bans are not known")
    lengths = {jail.name: jail.bantime for jail in mail}
    return bans.read(path, lengths, lengths, time.time())


def _compare(postfix: list[Jail], files: tuple[str, ...], zone: tzinfo | None) -> Comparison:
    if "-" in files:
        raise UsageError("the log is read twice: standard input cannot be", "name a file")
    settings = config()
    known = facts(settings)
    paths = files or tuple(own_logs(settings, known))
    try:
        simulation = Simulation(postfix, known, zone or local_zone())
    except ValueError as error:
        raise UsageError(str(error), "report it; or use --no-compare") from error
    replay = Replay(settings, known, zone or local_zone())
    with progress(paths) as advance:
        simulation.run(paths, advance)
    with progress(paths) as advance:
        for _ in replay.run(paths, advance):
            pass
    good, ours = replay.good(), replay.banned()
    networks = [each for each in ours if address.is_network(each)]
    covered = {
        client
        for client in chain(simulation.banned, good)
        if client in ours or any(address.inside(client, network) for network in networks)
    }
    theirs = simulation.banned.keys()
    return Comparison(
        replay.summary.lines,
        Side(len(theirs), _named(theirs & good.keys(), good)),
        Side(len(ours), _named(covered & good.keys(), good)),
        only_fail2ban=len(theirs - covered),
        both=len(theirs & covered),
    )


def _named(clients: Any, good: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return clients, those who did the most good first."""
    return sorted(clients, key=lambda client: (-sum(good[client]), client))


def _text(result: Migration) -> Iterator[str]:
    yield "Jails that are enabled:"
    width = max(map(len, result.jails), default=0)
    for name, fate in result.jails.items():
        yield f"  {name:<{width}}  {fate}"
    if not result.jails:
        yield "  none"
    if not any("replaced by" in fate for fate in result.jails.values()):
        yield "\nNo jail for Postfix's log is enabled: there is nothing to compare."
    yield "\nConfiguration: throttled migrate fail2ban --only toml \\"
    yield "    > /etc/throttled/throttled.d/fail2ban.toml; throttled check; throttled reload\n"
    yield from (f"  {line}".rstrip() for line in result.toml.splitlines())
    known = "not known" if result.bans is None else f"{len(result.bans):,}"
    yield f"\nActive bans of mail jails: {known}"
    if result.bans:
        yield "  to take them over: throttled migrate fail2ban --only bans | throttled import -"
    if result.comparison is not None:
        yield from _compared(result.comparison)


def _compared(both: Comparison) -> Iterator[str]:
    yield f"\nOn the same log ({both.lines:,} lines):"
    for name, side in (("fail2ban", both.fail2ban), ("throttled", both.throttled)):
        good = f"{len(side.good):,}" if side.good else "none"
        clients = "client" if side.banned == 1 else "clients"
        yield (
            f"  {name} would have banned {side.banned:,} {clients}, {good} of which delivered mail "
            "or logged in"
        )
        for client in side.good[:_SHOWN]:
            yield f"    {client}"
        if side.good[_SHOWN:]:
            yield f"    and {len(side.good) - _SHOWN:,} more; --json names them all"
    yield f"  {both.both:,} clients by both, {both.only_fail2ban:,} by fail2ban alone"
