"""`throttled throttle`."""

import re
from typing import Any

import click

from throttled.cli.change import punishing, report
from throttled.cli.daemon import ask
from throttled.cli.options import Command
from throttled.control.requests import Throttle
from throttled.control.results import ChangeResult
from throttled.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"([1-9][0-9]{0,5})/([smhd])")


def _rate(text: str) -> dict[str, Any]:
    """Read a rate such as 60/m.

    Raises:
        UsageError: it is none.
    """
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) > 100_000:
        raise UsageError(f"not a rate: {text}", "a number and s, m, h or d: 60/m")
    return {"rate": int(match[1]), "per": _UNITS[match[2]]}


@click.command(
    cls=Command,
    examples=(
        "throttled throttle 198.51.100.7",
        "throttled throttle 2001:db8::/64 --for 4h --scope submission",
        "throttled throttle account:alice --rate 60/m",
    ),
)
@click.option("--rate", type=_rate, metavar="N/UNIT", help="60/m, 10/s (default: as configured).")
@punishing
def command(*, as_json: bool, rate: dict[str, Any] | None, **punishment: Any) -> int:
    """Throttle an address, a network, an account or a host within mynetworks.

    An address may still open new connections at the rate in [throttle]; more are dropped. Mail of
    an account or a host within mynetworks, once Postfix asks (throttled postfix connect), is taken
    at that rate, and none is lost. Answers after the kernel has confirmed. Protected addresses are
    refused.
    """
    return report(ask(Throttle(**punishment, **(rate or {})), ChangeResult), as_json=as_json)
