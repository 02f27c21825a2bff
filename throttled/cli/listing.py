"""`throttled list`."""

from typing import Any

import click

from throttled.cli import output
from throttled.cli.offline import ask_or_look
from throttled.cli.options import Command, json_option, scope_option, subject
from throttled.control.protocol import MAX_ROWS, SORTS, List, ListResult
from throttled.model import ACTIONS, Snapshot


@click.command(
    "list",
    cls=Command,
    examples=(
        "throttled list",
        "throttled list 198.51.100.0/24",
        "throttled list --action ban --sort packets --max 20",
        "throttled list --json | jq -r '.rows[].subject'",
    ),
)
@click.argument("within", metavar="[ADDRESS]", required=False, type=subject)
@scope_option
@click.option("--action", type=click.Choice(ACTIONS), help="Only these.")
@click.option("--limit", metavar="NAME", help="Only what this limit led to (auth, operator, …).")
@click.option("--sort", type=click.Choice(SORTS), default="since", show_default=True)
@click.option(
    "--max",
    type=click.IntRange(1, MAX_ROWS),
    default=1000,
    show_default=True,
    help="So many rows at most.",
)
@json_option
def command(*, as_json: bool, **what: Any) -> int:
    """List throttles, bans and exemptions; works without a running daemon too.

    ADDRESS is an address, or a network with everything in it; the exit code is then 1 if
    nothing is in force there. LEFT is the time left, DROPPED counts packets.
    """
    result = ask_or_look(List(**what), ListResult)
    if as_json:
        output.print_json(result)
    else:
        _print(result)
    return 1 if what["within"] and not result.rows else 0


def _print(result: ListResult) -> None:
    if not result.rows:
        click.echo("nothing is in force")
        return
    columns = ("ADDRESS", "ACTION", "SCOPE", "SINCE", ">LEFT", ">DROPPED", "WHY")
    output.print_table(columns, [_row(snapshot) for snapshot in result.rows])
    if result.total > len(result.rows):
        click.echo(f"{len(result.rows):,} of {result.total:,}; see --max and the filters")


def _row(snapshot: Snapshot) -> tuple[str, ...]:
    action: str = snapshot.action
    if snapshot.level > 1:
        action += f" {snapshot.level}"
    elif snapshot.rate is not None:
        action += f" {output.rate(snapshot.rate)}"
    return (
        snapshot.subject,
        action,
        output.SCOPES[snapshot.scope],
        output.short_moment(snapshot.since),
        output.left(snapshot.until),
        output.short_number(snapshot.packets),
        f"{snapshot.limit}: {snapshot.why}",
    )
