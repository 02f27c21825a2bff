"""How the commands that change something ask for it and tell what became of it. Owns no state."""

from collections.abc import Callable
from typing import Any

import click

from throttled.cli import text
from throttled.cli.options import for_option, force_option, json_option, one_subject, scope_option
from throttled.control.results import ChangeResult


def punishing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `ban` and `throttle` take: the fields of their requests."""
    for add in (
        json_option,
        force_option,
        click.option("--why", default="", metavar="TEXT", help="Reason, shown by list."),
        scope_option,
        for_option("seconds", "Duration: 10m, 4h, 1d (default: as configured)."),
        click.argument("subject", metavar="SUBJECT", type=one_subject),
    ):
        command = add(command)
    return command


def report(result: ChangeResult, *, as_json: bool, removed: bool = False) -> int:
    """Print what was changed; return the exit code: 1 where the kernel did not confirm.

    Args:
        result: of the change.
        as_json: as JSON.
        removed: what changed is active no longer.
    """
    text.show(result, as_json=as_json, removed=removed)
    return 0 if result.confirmed else 1
