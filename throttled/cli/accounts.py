"""`throttled accounts`."""

from typing import get_args

import click

from throttled.cli import output
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import Command, json_option, max_option
from throttled.cli.senders import show_accounts
from throttled.control.requests import MAX_ROWS, Accounts, AccountSort
from throttled.control.results import AccountsResult
from throttled.subjects import Of

_KINDS = ("account", "uid", "inside", "domain", "mailbox")


@click.command(
    cls=Command,
    examples=(
        "throttled accounts",
        "throttled accounts --sort bounces",
        "throttled accounts example.test --of account",
        "throttled accounts --json | jq '.rows[] | select(.bounces > 10)'",
    ),
)
@click.argument("text", metavar="[TEXT]", default="")
@click.option("--of", type=click.Choice(_KINDS), help="Only senders of this kind.")
@click.option(
    "--sort",
    type=click.Choice(get_args(AccountSort)),
    metavar="COLUMN",
    default="recipients",
    show_default=True,
    help="Column to sort by, the highest first; by its name in the table.",
)
@max_option(MAX_ROWS)
@json_option
def command(*, text: str, of: Of | None, sort: AccountSort, most: int, as_json: bool) -> int:
    """Show what accounts and other senders did today, and what is usual for them.

    Accounts that log in, local users (uid:N), inside hosts, domains and mailboxes, of the last 35
    days. TEXT finds those whose name contains it. Days are UTC days. RECEIVED counts messages for a
    domain or mailbox, NETWORKS the networks from which an account logged in within the window of
    its limit (- without a daemon). USUAL is the average of recipients on earlier days with mail,
    HIGHEST the most on one day, ABOVE names the limits that it is above now. With TEXT the exit
    code is 1 if none is found. Only root may use it, unless [accounts] visible is "group".
    """
    request = Accounts(text, of, sort, most)
    result = ask_or_offline(request, AccountsResult)
    if as_json:
        output.print_json(result)
    elif result.rows:
        show_accounts(result)
        if result.total > len(result.rows):
            click.echo(f"and {result.total - len(result.rows):,} more: --max")
    elif not result.enabled:
        click.echo("senders are not counted: [accounts] enabled = false")
    else:
        click.echo("no sender is known" + (" by that name" if text else ""))
    return 1 if text and not result.rows else 0
