"""`throttled audit`."""

import click

from throttled.cli import text
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, allowable, for_option, json_option
from throttled.control.protocol import MAX_ROWS, Audit, AuditResult


@click.command(
    cls=Command,
    examples=(
        "throttled audit",
        "throttled audit 198.51.100.7",
        "throttled audit --for 1d --json | jq -r '.rows[].request'",
    ),
)
@click.argument("subject", metavar="[ADDRESS|NAME]", required=False, type=allowable)
@for_option("seconds", "Only the last so long: 1h, 1d, 2w.")
@click.option(
    "--max",
    "most",
    type=click.IntRange(1, MAX_ROWS),
    default=100,
    show_default=True,
    help="So many rows at most.",
)
@json_option
def command(*, subject: str | None, seconds: float | None, most: int, as_json: bool) -> int:
    """Show what operators changed, and who it was; the latest first.

    Every ban, throttle, unban, allow, disallow, import, reload and purge by hand is kept for a
    year, also what was refused and what was done without a running daemon. What was asked is cut at
    the edge of the screen; --json has it whole. With ADDRESS the exit
    code is 1 if nothing is known.
    """
    result = ask_or_offline(Audit(subject, seconds, most), AuditResult)
    text.show(result, as_json=as_json)
    return 1 if subject and not result.rows else 0
