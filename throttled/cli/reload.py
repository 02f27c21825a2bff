"""`throttled reload`."""

import click

from throttled.cli import text
from throttled.cli.daemon import ask
from throttled.cli.options import Command, json_option
from throttled.control.requests import Reload
from throttled.control.results import Done


@click.command(
    cls=Command,
    examples=("throttled reload",),
)
@json_option
def command(*, as_json: bool) -> None:
    """Make the daemon read its configuration again.

    If the file has errors, they are reported and nothing changes. Throttles and bans stay.
    """
    text.show(ask(Reload(), Done), as_json=as_json)
