"""`throttled preview`."""

from typing import Any

import click

from throttled.cli.list import filtering, show
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command
from throttled.control.protocol import List, ListResult
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
    """List who would be throttled or banned now if the daemon enforced, not only observed.

    For mode = "observe": what it decided is in a database of its own. Nothing of that is ever put
    in force: enforcing begins with nobody banned. Works without a running daemon too. The exit
    code is 1 if the daemon enforces already, or if nothing would be in force for ADDRESS.
    """
    return show(_observed, as_json=as_json, **what)


def _observed(request: List) -> ListResult:
    result = ask_or_offline(request, ListResult, observed=True)
    if not result.would:
        raise RefusedError("the daemon enforces: nothing is only observed", "see: throttled list")
    return result
