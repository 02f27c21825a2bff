"""`throttled preview`."""

from typing import Any

import click

from throttled.cli.list import filtering, show
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command
from throttled.control.requests import List
from throttled.control.results import ListResult
from throttled.errors import RefusedError


@click.command(
    cls=Command,
    examples=(
        "throttled preview",
        "throttled preview --action ban",
        "throttled preview --json | jq -r '.rows[].subject'",
    ),
)
@filtering
def command(*, as_json: bool, **what: Any) -> int:
    """List the throttles and bans that would be active if the daemon enforced.

    For mode = "observe", whose decisions are in a database of their own. They are never enforced:
    another mode starts with no bans. Works without a running daemon too. The exit code is 1 if the
    daemon enforces already, or if there would be no entry for ADDRESS.
    """
    return show(_observed, as_json=as_json, **what)


def _observed(request: List) -> ListResult:
    result = ask_or_offline(request, ListResult, observed=True)
    if not result.would:
        raise RefusedError(
            "the daemon enforces: there is nothing to preview", "see: throttled list"
        )
    return result
