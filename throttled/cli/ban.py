"""`throttled ban`."""

from typing import Any

import click

from throttled.cli.change import punishing, report
from throttled.cli.daemon import ask
from throttled.cli.options import Command
from throttled.control.requests import Ban
from throttled.control.results import ChangeResult


@click.command(
    cls=Command,
    examples=(
        "throttled ban 198.51.100.7",
        "throttled ban account:alice --for 1h",
        'throttled ban 198.51.100.0/24 --for 1d --scope mx --why "as agreed"',
    ),
)
@punishing
def command(*, as_json: bool, **punishment: Any) -> int:
    """Ban an address, a network, an account or a host within mynetworks.

    Mail of an account or a host within mynetworks, once Postfix asks (throttled postfix connect),
    is deferred or put on hold ([accounts] ban). Of others all packets to this host's SMTP ports
    are dropped and sessions are ended. Answers after the kernel has confirmed. Protected addresses
    are refused.
    """
    return report(ask(Ban(**punishment), ChangeResult), as_json=as_json)
