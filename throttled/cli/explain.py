"""`throttled explain`."""

import click
from msgspec.structs import replace

from throttled.cli import output, text
from throttled.cli.offline import ask_or_look
from throttled.cli.options import Command, json_option, subject
from throttled.control.protocol import Explain, ExplainResult


@click.command(
    cls=Command,
    examples=(
        "throttled explain 198.51.100.7",
        "throttled explain 2001:db8::/64 --json",
        "throttled explain account:alice@example.test",
    ),
)
@click.argument("subject", metavar="SUBJECT", type=subject)
@json_option
def command(*, subject: str, as_json: bool) -> None:
    """Explain all that is known of a client or a sender, banned or not.

    SUBJECT is an address, a network, or account:NAME, uid:N, mailbox:ADDRESS, domain:NAME.
    What is in force and why, meters against their limits, open sessions, the log lines that
    counted, earlier decisions, good evidence, protection, and what would happen next. Without
    a running daemon it tells what is stored.
    """
    result = ask_or_look(Explain(subject), ExplainResult)
    if as_json:
        readable = [replace(line, text=output.from_log(line.text)) for line in result.lines]
        result = replace(result, lines=readable)
    text.show(result, as_json=as_json)
