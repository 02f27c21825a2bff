"""`throttled abuse`."""

import os
import sys
import time
from contextlib import closing
from socket import getfqdn
from typing import Any

import click
from msgspec.structs import replace

from throttled.analysis.abuse import Sender, collect, mail, masked, xarf
from throttled.cli import output
from throttled.cli.daemon import config
from throttled.cli.options import Command, for_option, json_option, mail_address, subject
from throttled.store.store import Store

_WEEK = 604800.0


@click.command(
    cls=Command,
    examples=(
        "throttled abuse 198.51.100.7",
        "throttled abuse 198.51.100.0/24 --to abuse@isp.example | sendmail -i -t",
        "throttled abuse 198.51.100.7 --json",
    ),
)
@click.argument("network", metavar="NETWORK", type=subject)
@for_option("seconds", "What happened within this time (default: 1w).")
@click.option("--to", metavar="ADDRESS", default="", help="The abuse address of the network.")
@click.option("--contact", metavar="ADDRESS", help="Who answers questions (default: postmaster).")
@click.option("--unmasked", is_flag=True, help="Leave logins and local parts in the log lines.")
@json_option
def command(*, network: str, unmasked: bool, as_json: bool, **more: Any) -> None:
    """Write an abuse report about an address or a network, with the log lines that counted.

    The report is a mail in X-ARF (XARF v4 in a multipart/report), on standard output; nothing is
    sent. With --json: the XARF object alone. Names of accounts and the local parts of addresses in
    log lines are removed. Whom to send it to is in the whois entry of the network (whois
    198.51.100.7: abuse-mailbox, OrgAbuseEmail). For root; the daemon need not run. The exit code is
    1 if nothing of this host's log is stored about NETWORK.
    """
    host, now = full_name(os.uname().nodename), time.time()
    contact = more["contact"] or f"postmaster@{host}"
    sender = Sender(host, mail_address(contact), mail_address(more["to"]))
    with closing(Store.open(config().database(), readonly=True)) as store:
        found = collect(store, network, now - (more["seconds"] or _WEEK), now)
    if not unmasked:
        found = replace(found, lines=masked(found.lines))
    if as_json:
        sys.stdout.buffer.write(output.to_json(xarf(found, sender)))
    else:
        sys.stdout.buffer.write(bytes(mail(found, sender, now)).replace(b"\r\n", b"\n"))


def full_name(name: str) -> str:
    """Return a host name with its domain, as `hostname --fqdn`; as it is where none is known."""
    found = getfqdn(name)
    return found if found.startswith(f"{name}.") else name
