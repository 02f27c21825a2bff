"""`throttled throttle`."""

from typing import Any

import click

from throttled.cli.change import punishing, report
from throttled.cli.daemon import ask
from throttled.cli.options import Command
from throttled.control.protocol import ChangeResult, Throttle


@click.command(
    cls=Command,
    examples=(
        "throttled throttle 198.51.100.7",
        "throttled throttle 2001:db8::/64 --for 4h --scope submission",
    ),
)
@punishing
def command(*, as_json: bool, **punishment: Any) -> int:
    """Throttle an address or a network.

    It may still open new connections at the rate in [throttle]; more are dropped. Answers after
    the kernel has confirmed. Protected addresses are refused.
    """
    return report(ask(Throttle(**punishment), ChangeResult), as_json=as_json)
