"""`throttled report`."""

import os
import time
from contextlib import closing

import click

from throttled.analysis.report import DAY, WEEK, Overview, headline, overview, span, without_names
from throttled.cli import output
from throttled.cli.daemon import config
from throttled.cli.options import Command, json_option, mail_address
from throttled.cli.page_file import HTML, write_page
from throttled.cli.report_page import page
from throttled.cli.report_text import text
from throttled.config.schema import Config
from throttled.notify.letter import Letter
from throttled.notify.mail import send
from throttled.store.store import Store


@click.command(
    cls=Command,
    examples=(
        "throttled report",
        "throttled report --day --html /root/throttled.html",
        "throttled report --mail postmaster@example.org",
        "throttled report --json | jq .totals.bans",
    ),
)
@click.option("--day", "seconds", flag_value=DAY, type=float, help="The last 24 hours.")
@click.option(
    "--week",
    "seconds",
    flag_value=WEEK,
    type=float,
    default=WEEK,
    help="The last seven days (default).",
)
@click.option("--html", type=HTML, metavar="FILE", help="Write a page; - is standard output.")
@click.option("--mail", metavar="ADDRESS", help="Send it, by SMTP to the local Postfix.")
@json_option
def command(*, seconds: float, html: str | None, mail: str | None, as_json: bool) -> None:
    """Show what happened: sessions, throttles, bans, dropped packets, by hour and by limit.

    Also the worst networks and clients, good senders that were throttled or banned, accounts, and
    how it changed since the week before. Of whole hours: the current one is left out. Read from the
    database, for root; the daemon need not run. In mode "observe": what would have been done.
    The page is one file without scripts that loads nothing, for screens of any width and for print.
    A mail has the text, and the page attached; in it accounts have numbers instead of names, unless
    [notify] accounts = true. To send one each week: systemctl enable --now throttled-report.timer
    """
    settings = config()
    with closing(Store.open(settings.database(), readonly=True)) as store:
        since, until = span(time.time(), seconds)
        found = overview(store, since, until, host=os.uname().nodename, would=settings.observing)
    if html:
        write_page(found, html)
    if mail:
        send(_letter(found if settings.notify.accounts else without_names(found), mail, settings))
        click.echo(f"sent to {output.printable(mail)}", err=True)
    if as_json:
        output.print_json(found)
    elif not html and not mail:
        for line in text(found):
            table = line.startswith(" ")  # the others are sentences
            click.echo(output.cut(line) if table else output.printable(line))


def _letter(found: Overview, to: str, settings: Config) -> Letter:
    """Return a report as a mail."""
    body = "\n".join(map(output.printable, text(found, "utf-8"))) + "\n"
    subject = f"throttled on {found.host}: {headline(found)}"
    return Letter(mail_address(to), subject, body, page(found), settings.notify.smtp)
