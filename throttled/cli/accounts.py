"""`throttled accounts`."""

import time
from pathlib import Path

import click
from msgspec import Struct

from throttled.cli import output
from throttled.cli.daemon import config
from throttled.cli.options import Command, json_option
from throttled.errors import NotRunningError
from throttled.model import SenderRow
from throttled.store.store import Store

_KINDS = ("account", "uid", "inside", "domain", "mailbox")
_SORTS = ("recipients", "messages", "bounces", "deferrals", "bytes", "usual", "highest")
_MOST = 10_000


class _Accounts(Struct):
    """What is printed with --json."""

    rows: list[SenderRow]


@click.command(
    cls=Command,
    examples=(
        "throttled accounts",
        "throttled accounts --sort bounces",
        "throttled accounts example.test --of account",
        "throttled accounts --json | jq '.rows[] | select(.bounces > 10)'",
    ),
)
@click.argument("text", metavar="[TEXT]", default="")
@click.option("--of", type=click.Choice(_KINDS), help="Only senders of this kind.")
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="recipients",
    show_default=True,
    help="Column to sort by, the highest first.",
)
@click.option(
    "--max",
    "most",
    type=click.IntRange(1, _MOST),
    default=100,
    show_default=True,
    help="Maximum number of rows.",
)
@json_option
def command(*, text: str, of: str | None, sort: str, most: int, as_json: bool) -> int:
    """Show what accounts and other senders did today, and what is usual for them.

    Accounts that log in, local users (uid:N), inside hosts, domains and mailboxes, of the last 35
    days. TEXT finds those whose name contains it. A day is one in UTC; the counts are up to a
    minute old. USUAL is the average of recipients of the earlier days with mail, HIGHEST the most
    in one. It reads the database and needs root. With TEXT the exit code is 1 if none is found.
    """
    path = config().database()
    if not Path(path).exists():
        raise NotRunningError(f"there is no database {path}", "start the daemon: throttled run")
    store = Store.open(path, readonly=True)
    try:
        rows = store.senders_of_day(int(time.time() // 86400), text, of or "")
    finally:
        store.close()
    rows.sort(key=lambda row: (-getattr(row, sort), row.subject))
    if as_json:
        output.print_json(_Accounts(rows[:most]))
    elif rows:
        _show(rows[:most])
        if len(rows) > most:
            click.echo(f"and {len(rows) - most:,} more: --max")
    else:
        click.echo("no sender is known" + (" by that name" if text else ""))
    return 1 if text and not rows else 0


def _show(rows: list[SenderRow]) -> None:
    titles = ">MESSAGES >RECIPIENTS >BOUNCES >DEFERRED >BYTES >USUAL >HIGHEST SENDER"
    output.print_table(
        titles.split(),
        [
            (
                *map(output.number, (row.messages, row.recipients, row.bounces, row.deferrals)),
                output.short_number(row.bytes),
                *map(output.number, (row.usual, row.highest)),
                output.from_log(row.subject),
            )
            for row in rows
        ],
    )
