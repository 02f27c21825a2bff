"""`throttled find`."""

import click

from throttled.cli import output
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, json_option, max_option
from throttled.cli.senders import show_found
from throttled.control.requests import Find
from throttled.control.results import FindResult


@click.command(
    cls=Command,
    examples=(
        "throttled find alice",
        "throttled find mail.example.com",
        "throttled find 198.51.100. --json | jq -r '.rows[].subject'",
    ),
)
@click.argument("text", metavar="TEXT")
@max_option(1000)
@json_option
def command(*, text: str, most: int, as_json: bool) -> int:
    """Find accounts, mailboxes, domains, host names and addresses by a piece of them.

    For help desks: TEXT, at least two characters, is searched in the names of accounts, users,
    mailboxes and domains of the last 35 days, in the host names of the latest clients, and at the
    beginning of addresses. `explain`, `list` and `unban` accept what is found. The exit code is 1
    if nothing is found. Only root may use it, unless [accounts] visible is "group".
    """
    result = ask_or_offline(Find(text, most), FindResult)
    if as_json:
        output.print_json(result)
    elif result.rows:
        show_found(result)
    else:
        click.echo(f"nothing matches {output.printable(text)}")
    return 0 if result.rows else 1
