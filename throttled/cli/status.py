"""`throttled status`."""

import click

from throttled.cli import text
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, json_option
from throttled.control.requests import Status
from throttled.control.results import StatusResult


@click.command(
    cls=Command,
    examples=(
        "throttled status",
        "throttled status --json | jq .banned",
    ),
)
@json_option
def command(*, as_json: bool) -> int:
    """Show the state of the daemon.

    Without a running daemon it shows how many entries are stored and how many are in the kernel;
    the exit code is then 3.
    """
    status = ask_or_offline(Status(), StatusResult)
    text.show(status, as_json=as_json)
    return 0 if status.pid else 3
