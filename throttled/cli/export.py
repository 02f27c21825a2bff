"""`throttled export`."""

import time
from collections.abc import Iterator
from itertools import chain

import click

from throttled.address import is_named
from throttled.cli import lists, output
from throttled.cli.daemon import config
from throttled.cli.options import Command, json_option
from throttled.control.results import AllowRow
from throttled.store.store import Store


@click.command(
    cls=Command,
    examples=(
        "throttled export banned > bans.txt",
        "throttled export allowed --format json > allowed.json",
        "throttled export banned | ssh mx2 throttled import -",
    ),
)
@click.argument("which", metavar="allowed|banned", type=click.Choice(("allowed", "banned")))
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json")),
    default="text",
    help="One entry per line, or JSON.",
)
@json_option
def command(*, which: str, form: str, as_json: bool) -> None:
    """Write the allowlist, or all throttles and bans, as a list.

    `throttled import` reads it, also on another host: with the action, the scope, the end and the
    reason of each entry. It refuses entries made in mode = "observe" unless --as is
    given. The list is read from the database, which needs root but no running daemon.
    """
    settings = config()
    store = Store.open(settings.database(), readonly=True)
    try:
        as_json = as_json or form == "json"
        written = _allowed(store, as_json=as_json)
        would = settings.observing and which == "banned"
        if which == "banned":
            written = _banned(store, as_json=as_json, would=would)
        if as_json:
            end = '],"would":true}\n' if would else "]}\n"
            written = chain(['{"rows":[\n'], _separated(written), [end])
        for text in written:
            click.echo(text, nl=False)
    finally:
        store.close()


def _banned(store: Store, *, as_json: bool, would: bool) -> Iterator[str]:
    for rows in store.listing.rows(time.time()):
        for row in rows:
            if row.action != "exempt" and not is_named(row.subject):  # no list has accounts
                yield _json(row) if as_json else lists.line(row, would=would) + "\n"


def _allowed(store: Store, *, as_json: bool) -> Iterator[str]:
    names = set()
    for row in store.allowlist.entries(time.time()):
        if row.name:  # its addresses are DNS's to say, wherever the list is read
            if not as_json and row.name not in names:
                names.add(row.name)
                yield f"# throttled allow --resolve {row.name}\n"
        elif as_json:
            yield _json(AllowRow(row.what, row.since, row.until or None, row.note))
        else:
            yield lists.allowed_line(row.what, row.until, row.note) + "\n"


def _json(row: object) -> str:
    return output.to_json(output.plain(row)).decode()


def _separated(rows: Iterator[str]) -> Iterator[str]:
    for at, row in enumerate(rows):
        yield f",{row}" if at else row
