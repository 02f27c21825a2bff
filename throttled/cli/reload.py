"""`throttled reload`."""

import click

from throttled.cli import text
from throttled.cli.daemon import ask
from throttled.cli.options import Command, json_option
from throttled.control.protocol import Done, Reload


@click.command(
    cls=Command,
    examples=("throttled reload",),
)
@json_option
def command(*, as_json: bool) -> None:
    """Let the daemon read its configuration again.

    A faulty file changes nothing and is told; what is in force stays in force.
    """
    text.show(ask(Reload(), Done), as_json=as_json)
