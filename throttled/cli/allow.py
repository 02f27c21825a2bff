"""`throttled allow`."""

import time
from collections.abc import Sequence
from itertools import groupby

import click

from throttled import address
from throttled.cli import output, text
from throttled.cli.change import report
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, allowable, for_option, force_option, json_option
from throttled.control.canonical import host_name
from throttled.control.requests import MAX_ADDRESSES, Allow, Allowed, Request, Resolve
from throttled.control.results import AllowedResult, AllowRow, ChangeResult
from throttled.errors import HostError, RefusedError, ThrottledError, UsageError
from throttled.host.resolve import forward
from throttled.store.names import GRACE


@click.command(
    cls=Command,
    examples=(
        "throttled allow",
        'throttled allow 198.51.100.0/24 --note "the branch office"',
        "throttled allow .example.com --for 1d",
        "throttled allow --resolve monitor.example.net",
    ),
)
@click.argument("what", metavar="[ADDRESS|NAME]", required=False, type=allowable)
@for_option("seconds", "Duration: 4h, 1d, 2w (default: no end).")
@click.option("--note", default="", metavar="TEXT", help="Comment, stored with the entry.")
@click.option("--resolve", is_flag=True, help="Allow the addresses that NAME has in DNS.")
@click.option(
    "--refresh", is_flag=True, help="Resolve all names on the allowlist again; see above."
)
@force_option
@json_option
def command(  # noqa: PLR0913 - the words of the command
    *,
    what: str | None,
    seconds: float | None,
    note: str,
    resolve: bool,
    refresh: bool,
    force: bool,
    as_json: bool,
) -> int | None:
    """Allow an address, a network or a host name: never act on it. Without argument: list them.

    .example.com means every host whose name ends with it, example.com one host; the name is the
    one in Postfix's log, which is confirmed by DNS in both directions. Throttles and bans of an
    address or network are removed; those made before a host name was allowed remain. The exit
    code is 0 only if the kernel lets its packets pass. [protect] in the configuration does the
    same permanently.

    --resolve allows a host whose addresses have no such name: the command looks them up in DNS,
    at most 64. The package's timer throttled-resolve.timer runs allow --refresh every 15 minutes.
    Addresses that DNS no longer returns are removed after a day; while DNS fails all remain.
    """
    if refresh:
        if what is not None or resolve:
            raise UsageError("--refresh accepts no NAME", "it resolves all names on the allowlist")
        return _refresh(as_json=as_json)
    if what is None:
        if resolve:
            raise UsageError("--resolve needs a NAME")
        text.show(ask_or_offline(Allowed(), AllowedResult), as_json=as_json)
        return None
    asked: Request = Allow(what, seconds, note, force)
    if resolve:
        name = host_name(what)
        asked = Resolve(name, _addresses(name), seconds, note)
    code = report(ask_or_offline(asked, ChangeResult), as_json=as_json, removed=True)
    by_name = not (resolve or address.is_subject(what) or address.is_named(what))
    if by_name and not as_json:
        click.echo(f"throttled: {matches(what)}", err=True)
    return code


def matches(name: str) -> str:
    """Say what a host name on the allowlist matches."""
    if name.startswith("."):
        return f"it matches every client whose name in Postfix's log ends in {name}"
    return (
        f"it matches a client that Postfix's log calls {name}: its address must have that reverse "
        f"name. To allow all its addresses: throttled allow --resolve {name}"
    )


def _addresses(name: str) -> list[str]:
    """Return what DNS says, if it can be allowed.

    Raises:
        RefusedError: it does not resolve, or to too many addresses.
    """
    try:
        found = forward(name)
    except HostError as error:
        hint = f"see: getent ahosts {name}"
        raise RefusedError(f"{name} does not resolve ({error.message})", hint) from error
    if len(found) > MAX_ADDRESSES:
        hint = "allow its networks instead"
        raise RefusedError(f"{name} has more than {MAX_ADDRESSES} addresses", hint)
    return found


def _refresh(*, as_json: bool) -> int:
    """Resolve all names again, and send what changed; 1 where a name could not be refreshed."""
    rows = [row for row in ask_or_offline(Allowed(), AllowedResult).rows if row.name]
    messages: list[str] = []
    failed: list[str] = []
    for name, group in groupby(rows, lambda row: row.name):
        try:
            found = _addresses(name)
            if changed(list(group), found, time.time()):
                messages.append(
                    ask_or_offline(Resolve(name, found, refresh=True), ChangeResult).message
                )
        except ThrottledError as error:
            failed.append(f"{error.message}: its addresses are unchanged")
    if as_json:
        output.print_json({"changed": messages, "failed": failed})
    for line in () if as_json else messages:
        click.echo(output.printable(line))
    for line in failed:
        click.echo(f"throttled: {output.printable(line)}", err=True)
    return int(bool(failed))


def changed(rows: Sequence[AllowRow], found: Sequence[str], now: float) -> bool:
    """Return whether the list has to be changed for what DNS returned for a name."""
    present = {row.what for row in rows if not row.missing}
    ended = (row.missing and row.missing <= now - GRACE for row in rows if row.what not in found)
    return present != set(found) or any(ended)
