"""`throttled unban`."""

import click

from throttled.cli.change import report
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, for_option, json_option, scope_option, subject
from throttled.control.protocol import ChangeResult, Unban, UnbanAll
from throttled.errors import UsageError
from throttled.model import Scope


@click.command(
    cls=Command,
    examples=(
        "throttled unban 198.51.100.7",
        "throttled unban 198.51.100.7 --for 1d",
        "throttled unban --all",
    ),
)
@click.argument("subject", metavar="[ADDRESS]", required=False, type=subject)
@click.option("--all", "all_", is_flag=True, help="Remove all throttles and bans.")
@for_option("exempt", "Exempt it for this time, whatever it does.")
@scope_option
@json_option
def command(
    *, subject: str | None, all_: bool, exempt: float | None, scope: Scope | None, as_json: bool
) -> int:
    """Unban an address or a network.

    Removes its throttle and ban, its offences and its counts. Works without a running daemon too.
    Unbanning a network does not unban the single addresses in it. The exit code is 0 only if the
    kernel confirmed that the client can connect. It is 1 if there was nothing to unban, or if
    another entry still throttles or bans it, such as a ban of its network, which is reported.
    """
    if (subject is None) != all_:
        raise UsageError("name an address, or --all", "see: throttled unban --help")
    if subject is None:
        if exempt is not None:
            raise UsageError(
                "--for needs an address", "to stop acting: throttled run --mode observe"
            )
        return report(ask_or_offline(UnbanAll(scope), ChangeResult), as_json=as_json, removed=True)
    return report(
        ask_or_offline(Unban(subject, scope, exempt or 0.0), ChangeResult),
        as_json=as_json,
        removed=True,
    )
