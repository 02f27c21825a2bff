"""`throttled audit`."""

import click

from throttled.cli import text
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, allowable, for_option, json_option, max_option
from throttled.control.requests import MAX_ROWS, Audit
from throttled.control.results import AuditResult


@click.command(
    cls=Command,
    examples=(
        "throttled audit",
        "throttled audit 198.51.100.7",
        "throttled audit --for 1d --json | jq -r '.rows[].request'",
    ),
)
@click.argument("subject", metavar="[ADDRESS|NAME]", required=False, type=allowable)
@for_option("seconds", "Only changes within this time: 1h, 1d, 2w.")
@max_option(MAX_ROWS)
@json_option
def command(*, subject: str | None, seconds: float | None, most: int, as_json: bool) -> int:
    """Show the changes that operators made, and who made them; the latest first.

    Every manual ban, throttle, unban, allow, disallow, import, reload and purge is stored for a
    year, also those that were refused or made without a running daemon. Requests are cut at the
    edge of the screen; --json prints them whole. With ADDRESS the exit code is 1 if there is none.
    """
    result = ask_or_offline(Audit(subject, seconds, most), AuditResult)
    text.show(result, as_json=as_json)
    return 1 if subject and not result.rows else 0
