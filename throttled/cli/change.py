"""How the commands that change something ask for it and tell what became of it. Owns no state."""

from collections.abc import Callable
from typing import Any

import click

from throttled.cli import output
from throttled.cli.options import for_option, force_option, json_option, scope_option, subject
from throttled.control.protocol import ChangeResult
from throttled.model import Snapshot


def punishing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `ban` and `throttle` take: the fields of their requests."""
    for add in (
        json_option,
        force_option,
        click.option("--why", default="", metavar="TEXT", help="Kept with it, shown by list."),
        scope_option,
        for_option("seconds", "How long: 10m, 4h, 1d. As configured unless given."),
        click.argument("subject", metavar="ADDRESS", type=subject),
    ):
        command = add(command)
    return command


def tell(result: ChangeResult, *, as_json: bool, lifted: bool = False) -> int:
    """Print what was changed; return the exit code: 1 where the kernel did not confirm.

    Args:
        result: of the change.
        as_json: as JSON.
        lifted: what changed is in force no longer.
    """
    if as_json:
        output.print_json(result)
    else:
        click.echo(output.printable(result.message))
        for snapshot in result.changed:
            click.echo(output.printable(f"  {_line(snapshot, lifted=lifted)}"))
    return 0 if result.confirmed else 1


def _line(snapshot: Snapshot, *, lifted: bool) -> str:
    until = output.moment(snapshot.until)
    end = f"removed, would have ended {until}" if lifted else f"until {until}"
    return (
        f"{snapshot.subject} {snapshot.action} in {snapshot.scope} {end}, "
        f"{snapshot.limit}: {snapshot.why}"
    )
