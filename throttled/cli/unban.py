"""`throttled unban`."""

import click

from throttled.cli.change import report
from throttled.cli.offline import ask_or_look
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
@click.option("--all", "all_", is_flag=True, help="Every throttle and ban.")
@for_option("exempt", "Do not act on it again for so long, whatever it does.")
@scope_option
@json_option
def command(
    *, subject: str | None, all_: bool, exempt: float | None, scope: Scope | None, as_json: bool
) -> int:
    """Lift throttle and ban of an address or a network.

    Its offences and meters are forgotten too. Works without a running daemon too. A network is
    lifted itself, not the single addresses in it. The exit code is 0 only if the kernel was asked
    and the client can connect; it is 1 if nothing was in force, or if something else still
    throttles or bans it, such as a ban of its network: that is named.
    """
    if (subject is None) != all_:
        raise UsageError("name an address, or --all", "see: throttled unban --help")
    if subject is None:
        if exempt is not None:
            raise UsageError(
                "--for needs an address", "to stop acting: throttled run --mode observe"
            )
        return report(ask_or_look(UnbanAll(scope), ChangeResult), as_json=as_json, removed=True)
    return report(
        ask_or_look(Unban(subject, scope, exempt or 0.0), ChangeResult),
        as_json=as_json,
        removed=True,
    )
