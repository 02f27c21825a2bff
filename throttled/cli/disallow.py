"""`throttled disallow`."""

import click

from throttled.cli.change import report
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, allowable, json_option
from throttled.control.requests import Disallow
from throttled.control.results import ChangeResult


@click.command(
    cls=Command,
    examples=(
        "throttled disallow 198.51.100.0/24",
        "throttled disallow .example.com",
    ),
)
@click.argument("what", metavar="ADDRESS|NAME", type=allowable)
@json_option
def command(*, what: str, as_json: bool) -> int:
    """Remove an entry of `throttled allow` from the allowlist.

    What the configuration protects stays protected.
    """
    return report(ask_or_offline(Disallow(what), ChangeResult), as_json=as_json)
