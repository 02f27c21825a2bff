"""`throttled list`; what it prints, `throttled preview` prints too."""

import sys
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import click
from msgspec.structs import replace

from throttled.cli import completion, output, text
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, json_option, list_option, scope_option, seconds, subject
from throttled.control.requests import SORTS, List
from throttled.control.results import ListResult
from throttled.model import ACTIONS

#: Rows that the daemon is asked for at a time: it takes some ten milliseconds over them.
_PAGE = 2_000
#: Rows of a table, unless --max says another number.
_TABLE = 1_000

_Ask = Callable[[List], ListResult]


def filtering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `list` and `preview` take: the fields of `List`."""
    for add in (
        json_option,
        click.option(
            "--max",
            type=click.IntRange(1),
            help=f"Maximum number of rows.  [default: {_TABLE} in a table, all with --json]",
        ),
        click.option("--sort", type=click.Choice(SORTS), default="since", show_default=True),
        click.option(
            "--limit",
            shell_complete=completion.limits,
            metavar="NAME",
            help="Only entries made by this limit (auth, operator, …).",
        ),
        click.option(
            "--since",
            "seconds",
            type=seconds,
            metavar="DURATION",
            help="Only entries decided within this time before now: 10m, 1d.",
        ),
        click.option(
            "--proxied",
            is_flag=True,
            help="Clients behind a proxy, whose decisions are only reported.",
        ),
        click.option(
            "--from",
            "peer",
            shell_complete=completion.peers,
            metavar="PEER",
            help="Only entries from this host of the fleet.",
        ),
        list_option("Only entries of this list.", callback=lambda _ctx, _option, name: name or ""),
        click.option("--action", type=click.Choice(ACTIONS), help="Only entries with this action."),
        scope_option,
        click.argument("within", metavar="[ADDRESS]", required=False, type=subject),
    ):
        command = add(command)
    return command


@click.command(
    "list",
    cls=Command,
    examples=(
        "throttled list",
        "throttled list 198.51.100.0/24",
        "throttled list --action ban --sort packets --max 20",
        "throttled list --since 10m",
        "throttled list --json | jq -r '.rows[].subject'",
    ),
)
@filtering
def command(*, as_json: bool, **what: Any) -> int:
    """List throttles, bans and exemptions; works without a running daemon too.

    ADDRESS is an address, or a network with everything in it; the exit code is then 1 if there
    are no entries. LEFT is the time left, DROPPED counts packets, HOST NAME is the client's in the
    log; on narrow terminals WHY has it. In observe mode ACTION is what the daemon would do.
    """
    return show(lambda request: ask_or_offline(request, ListResult), as_json=as_json, **what)


def show(ask: _Ask, *, as_json: bool, max: int | None, **what: Any) -> int:  # noqa: A002 - option
    """Print what is active, in pieces; return the exit code.

    Args:
        ask: answers a request.
        as_json: as one object, of which no more than a piece is in memory.
        max: how many rows; None = all in JSON, a thousand in a table.
        what: the other fields of the request.
    """
    most = max or (None if as_json else _TABLE)
    pages = _pages(ask, List(**what), most)
    first = next(pages)
    if as_json:
        _print_json(first, pages)
    else:
        filtered = any(value for name, value in what.items() if name != "sort")
        text.table(first, [row for page in (first, *pages) for row in page.rows], filtered=filtered)
    return 1 if what["within"] and not first.rows else 0


def _pages(ask: _Ask, request: List, most: int | None) -> Iterator[ListResult]:
    asked = 0
    while most is None or asked < most:
        count = _PAGE if most is None else min(_PAGE, most - asked)
        result = ask(replace(request, max=count))
        yield result
        asked += count
        if not result.next:
            break
        request = replace(request, after=result.next)


def _print_json(first: ListResult, more: Iterator[ListResult]) -> None:
    """Print one object on one line, row by row: a million of them need no memory."""
    write = sys.stdout.write
    write('{"rows":[')
    separator = ""
    for page in chain([first], more):
        for row in page.rows:
            write(separator + output.to_json(output.plain(row)).decode().rstrip("\n"))
            separator = ","
    write(f'],"total":{first.total},"would":{"true" if first.would else "false"}}}\n')
