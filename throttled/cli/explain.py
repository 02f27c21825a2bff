"""`throttled explain`."""

import click
from msgspec.structs import replace

from throttled.cli import output, text
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, json_option, subject
from throttled.control.requests import Explain
from throttled.control.results import ExplainResult


@click.command(
    cls=Command,
    examples=(
        "throttled explain 198.51.100.7",
        "throttled explain 2001:db8::/64 --json",
        "throttled explain account:alice@example.test",
    ),
)
@click.argument("subject", metavar="SUBJECT", type=subject)
@click.option(
    "everything", "--all", is_flag=True, help="Also meters at 0, each log line, all decisions."
)
@json_option
def command(*, subject: str, everything: bool, as_json: bool) -> None:
    """Show everything known about a client or a sender, banned or not.

    SUBJECT is an address, a network, or account:NAME, uid:N, mailbox:ADDRESS, domain:NAME.

    The first line is the answer: whether it is throttled or banned, where, until when and why.
    Below it: active entries with their reasons and origin, counts and limits, open sessions, the
    log lines that counted by kind, earlier decisions, good evidence, protection, and what would
    happen next. Of a sender what it did today and usually, and its reports. Without a running
    daemon it shows what is stored.
    """
    result = ask_or_offline(Explain(subject), ExplainResult)
    if as_json:
        readable = [replace(line, text=output.from_log(line.text)) for line in result.lines]
        accounts = [output.from_log(user) for user in result.accounts]
        result = replace(result, lines=readable, accounts=accounts)
    text.show(result, as_json=as_json, everything=everything)
