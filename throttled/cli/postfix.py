"""`throttled postfix`."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import tzinfo
from functools import partial

import click
import msgspec
from msgspec import Struct

from throttled.analysis.limits import Reader, stored
from throttled.cli import output
from throttled.cli.daemon import ask as ask_daemon
from throttled.cli.daemon import config, facts, own_logs
from throttled.cli.options import Command, json_option, zone_option
from throttled.cli.progress import progress
from throttled.config.schema import Config
from throttled.control.requests import Asked
from throttled.control.results import Done
from throttled.errors import HostError, NotPermittedError, RefusedError, StoreError, UsageError
from throttled.facts import Facts
from throttled.host import changes, limits, maincf, master, postconf
from throttled.host.zone import local_zone
from throttled.operator import connect, postfix
from throttled.operator import maincf as changing
from throttled.operator.audit import this_process, user_name
from throttled.operator.maincf import Result, Target
from throttled.operator.postfix import Instance, Plan, Row
from throttled.store.store import Store

ACTIONS = ("show", "set", "undo", "connect", "disconnect")
_UNDO = {"set": "undo", "connect": "disconnect"}
_DAY = 86400.0
_WIDTH = 14
_DEFAULT = "Postfix's default"


class _Shown(Struct):
    """What is printed with --json."""

    instances: list[Instance]
    unread: list[str]  # logs that could not be read, and why


@click.command(
    cls=Command,
    examples=(
        "throttled postfix",
        "throttled postfix set smtpd_hard_error_limit=30",
        "throttled postfix set --advised",
        "throttled postfix undo",
        "throttled postfix connect",
        "throttled postfix --json | jq '.instances[].rows[] | select(.hits > 0)'",
    ),
)
@click.argument("action", type=click.Choice(ACTIONS), default="show")
@click.argument("values", metavar="[NAME=VALUE]…", nargs=-1)
@click.option("--advised", is_flag=True, help="Set what the table advises.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--instance", metavar="NAME", help="One Postfix of several: its name or its directory."
)
@zone_option
@json_option
def command(  # noqa: PLR0913 - a parameter for each option
    *,
    action: str,
    values: tuple[str, ...],
    advised: bool,
    yes: bool,
    instance: str | None,
    zone: tzinfo | None,
    as_json: bool,
) -> None:
    """Show, set and revert Postfix's own limits; let Postfix ask the daemon.

    show: each limit with its value, Postfix's default, how often it was hit within the last day
    (silent: Postfix logs nothing of it), the highest value of honest senders, and what it should
    be. Honest senders delivered mail or logged in.

    set: changes main.cf, shows the difference and asks. Values that stop mail are refused. After
    one reload every service that greeted clients has to greet them again, and no daemon may fail;
    if not, the old main.cf is restored and the exit code is 1. A limit that honest senders would
    have hit within the last day is named.

    connect: lets Postfix ask the daemon about each message, so that accounts and inside hosts can
    be slowed; and about each recipient, if a limit of mailboxes, or of what domains receive, acts.
    A message is begun at each service to see that it asks; if not, everything is reverted. By
    itself it slows nobody.

    disconnect: lets Postfix ask no more.

    undo: reverts the latest set that is active; again, the one before it. What others changed
    since then stays and is named.
    """
    _usage(action, values, advised=advised, asks=not yes, as_json=as_json)
    settings = config()
    known = facts(settings)
    if not known.config_directories:
        raise HostError("no Postfix was found", "see: postconf config_directory")
    if action == "show":
        _show(settings, known, instance, zone, as_json=as_json)
        return
    if os.geteuid() != 0:
        raise NotPermittedError("only root may change main.cf", "run it with sudo")
    if action in ("connect", "disconnect"):
        _asking(action, settings, known, instance, ask=not yes, as_json=as_json)
        return
    directory = postfix.chosen(known.config_directories, instance)
    with maincf.locked(directory):
        target = _target(settings, known, directory)
        recovered = _recover(target)
        if action == "undo" and recovered:
            return
        if action == "undo":
            plan = postfix.plan_undo(target)
        else:
            plan = _planned(settings, known, directory, zone, _wanted(values), advised=advised)
        _change(target, plan, settings, ask=not yes, as_json=as_json)


def _usage(action: str, values: Sequence[str], *, advised: bool, asks: bool, as_json: bool) -> None:
    """Refuse what does not go together."""
    if action != "set" and (values or advised):
        raise UsageError(f"{action} takes no values", "throttled postfix set NAME=VALUE")
    if action == "set" and not values and not advised:
        raise UsageError("set what?", "throttled postfix set NAME=VALUE, or --advised")
    if action != "show" and asks and (as_json or not sys.stdin.isatty()):
        raise UsageError(
            "there is no terminal to ask for confirmation",
            "to change main.cf without it, add --yes",
        )


def _planned(  # noqa: PLR0913 - what the command was given
    settings: Config,
    known: Facts,
    directory: str,
    zone: tzinfo | None,
    wanted: dict[str, str],
    *,
    advised: bool,
) -> Plan:
    """Return what `set` would change; its notes name honest senders who would be hit."""
    if not advised and not postfix.measured(wanted):
        return postfix.plan_set(directory, wanted)
    (shown,), _ = _instances(settings, known, [directory], zone)
    if advised:
        wanted = {**shown.advised, **wanted}
    plan = postfix.plan_set(directory, wanted)
    plan.notes += postfix.below_honest(shown, wanted)
    return plan


def _wanted(values: Iterable[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"no NAME=VALUE: {text}", "throttled postfix set NAME=VALUE")
        if wanted.setdefault(name.strip(), value.strip()) != value.strip():
            raise UsageError(f"{name.strip()} is there twice")
    return wanted


def _target(settings: Config, known: Facts, directory: str) -> Target:
    who = user_name(this_process())
    journal = changes.journal(settings.store.path, directory).load()
    return Target(directory, journal, tuple(settings.logs(known)), who)


def _recover(target: Target) -> bool:
    """Revert what a killed command left; return whether there was anything."""
    if not target.journal.pending():
        return False
    result = changing.recover(target)
    click.echo(f"throttled: {output.printable(result.message)}", err=True)
    target.journal.load()
    return True


def _asking(  # noqa: PLR0913 - the words of the command
    action: str,
    settings: Config,
    known: Facts,
    wanted: str | None,
    *,
    ask: bool,
    as_json: bool,
) -> None:
    """Connect or disconnect one instance, or all of them."""
    directories = _directories(known, wanted)
    for directory in directories:
        with maincf.locked(directory):
            target = _target(settings, known, directory)
            _recover(target)
            target = msgspec.structs.replace(target, command=action)
            if action == "disconnect":
                plan = connect.plan_disconnect(target)
                change = None if master.running(directory) else connect.disconnect
            else:
                change = None
                connect.ready(directory)
                proxied = any(s.instance == directory and s.proxy for s in known.services)
                recipients = settings.policy().acts(incoming=True)
                plan = connect.plan_connect(directory, proxied=proxied, recipients=recipients)
                verify = partial(connect.verify, directory, _asked, recipients=recipients)
                target = msgspec.structs.replace(target, verify=verify)
            if len(directories) > 1 and not as_json:
                click.echo(f"{directory}:")
            _change(target, plan, settings, ask=ask, as_json=as_json, make=change)


def _asked(client: str, port: int, about: connect.About) -> bool:
    """Return whether the daemon was asked about a session of this host."""
    return ask_daemon(Asked(client, port, about), Done).message == "asked"


def _change(  # noqa: PLR0913 - how it is shown, how it is made
    target: Target,
    plan: Plan,
    settings: Config,
    *,
    ask: bool,
    as_json: bool,
    make: Callable[[Target, Plan], Result] | None = None,
) -> None:
    if plan.empty:
        postfix.settled(target, plan)
        _report(plan, "nothing to change: main.cf says so already", target.command, as_json=as_json)
        return
    if ask:
        for line in (*plan.diff, *plan.notes):
            click.echo(output.printable(line), err=True)
        files = " and ".join(["main.cf", *(one.name for one in plan.more)])
        click.confirm(f"Change {files} and reload Postfix?", abort=True, err=True)
    result = make(target, plan) if make else postfix.change(target, plan, settings.store.path)
    if not result.applied:
        raise RefusedError(f"not changed: {result.message}", result.hint)
    plan.notes.extend(result.notes)
    _report(plan, result.message, target.command, as_json=as_json)


def _report(plan: Plan, message: str, command: str, *, as_json: bool) -> None:
    if as_json:
        changed = [{"name": s.name, "before": s.before, "after": s.after} for s in plan.settings]
        output.print_json({"changed": changed, "notes": plan.notes, "message": message})
        return
    click.echo(output.printable(message))
    for one in plan.settings:
        was, now = (_DEFAULT if v is None else v for v in (one.before, one.after))
        click.echo(output.printable(f"{one.name} = {now} (was: {was})"))
    for note in plan.notes:
        click.echo(output.printable(note))
    if undo := plan.settings and not plan.reverts and _UNDO.get(command):
        click.echo(f"to revert: throttled postfix {undo}")


def _show(
    settings: Config, known: Facts, wanted: str | None, zone: tzinfo | None, *, as_json: bool
) -> None:
    instances, unread = _instances(settings, known, _directories(known, wanted), zone)
    if as_json:
        output.print_json(_Shown(instances, unread))
        return
    for number, one in enumerate(instances):
        if number:
            click.echo()
        for line in _head(one, several=len(known.config_directories) > 1, unread=unread):
            click.echo(output.printable(line))
        _table(one.rows)
        for line in _below(one.rows):
            click.echo(output.printable(line))


def _directories(known: Facts, wanted: str | None) -> Sequence[str]:
    """Return the instance that is named; all where none is."""
    directories = known.config_directories
    return directories if wanted is None else [postfix.chosen(directories, wanted)]


def _instances(
    settings: Config, known: Facts, directories: Sequence[str], zone: tzinfo | None
) -> tuple[list[Instance], list[str]]:
    """Read configurations, logs and store."""
    tags = {d: changing.tags(postconf.read(d)) for d in directories}
    now = time.time()
    reader = Reader(tags, known, zone or local_zone(), now - _DAY)
    try:
        logs = own_logs(settings, known)
        with progress(logs) as report:
            reader.read(logs, report)
    except UsageError as error:
        reader.unread.append(error.message)
    with suppress(StoreError), closing(Store.open(settings.database(), readonly=True)) as store:
        stored(reader.found.values(), store, now)
    rows = [
        postfix.instance(limits.state(d), reader.found[d], known=not reader.unread)
        for d in directories
    ]
    return rows, reader.unread


def _head(one: Instance, *, several: bool, unread: Sequence[str]) -> Iterator[str]:
    count = len(one.advised)
    advised = f"{count or 'no'} change{'' if count == 1 else 's'} advised"
    hit = sum(bool(row.hits) for row in one.rows)
    was = f"{hit or 'no'} limit{' was' if hit == 1 else 's were'} hit within the last day"
    if unread:
        was = "whether limits were hit is not known"
    yield f"{one.directory} (Postfix {one.version}): {advised}; {was}"
    if count:
        which = f" --instance {one.name or one.directory}" if several else ""
        yield f"to set what is advised: throttled postfix set --advised{which}"
    yield from (f"not read: {path}" for path in unread)


def _table(rows: Iterable[Row]) -> None:
    titles = "PARAMETER >VALUE >ADVISED >HITS >HONEST >DEFAULT SINCE"
    output.print_table(
        titles.split(),
        [
            (
                row.name,
                _short(row.value),
                _short(row.advised),
                _hits(row),
                "" if row.honest is None else str(row.honest),
                "=" if row.value == row.default else _short(row.default),
                row.since,
            )
            for row in rows
        ],
    )


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _hits(row: Row) -> str:
    if row.silent:
        return "silent"
    return "?" if row.hits is None else str(row.hits)


def _below(rows: Iterable[Row]) -> Iterator[str]:
    """Yield what does not go into a table: reasons, clients, services."""
    for row in rows:
        if row.advised:
            yield f"advised: {row.name} = {row.advised}: {row.reason}"
    for row in rows:
        if row.hits:
            most = ", ".join(f"{client} ({count})" for client, count in row.clients.items())
            times = "once" if row.hits == 1 else f"{row.hits:,} times"
            yield f"hit: {row.name}: {times}" + (f", most often by {most}" if most else "")
    for row in rows:
        for service, value in row.services.items():
            yield f"{row.name} = {value} at {service} (master.cf)"
