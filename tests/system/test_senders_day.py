"""A day of mixed mail, compressed, through a real Postfix and a real content filter.

What was sent is known, and so is whose each bounce is: the counts have to be just that.
"""

import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.mail import content_filter, postfix
from lab.mail.postfix import HOST, PASSWORD, USER, Lab
from lab.mail.session import LETTER, session
from lab.network.netns import until
from throttled.decide.queue import Queue
from throttled.facts import Facts
from throttled.parse.parser import Parser

pytestmark = [pytest.mark.root, pytest.mark.postfix]

ACCOUNTS = (USER, "carol", "dave@shop.test")
STRANGERS = ("198.18.70.7", "198.18.70.17", "198.18.70.27")
DEVICES = ("198.18.70.8", "198.18.70.9")
INSIDE = ("127.0.0.0/8", *(f"{device}/32" for device in DEVICES))
_TRANSPORT = (
    "transport_maps = inline:{{dead.test=error:5.1.1 no such user}, {full.test=error:5.2.2 full},"
    " {later.test=retry:4.4.1 later}}"
)
_ALIASES = (
    "virtual_alias_maps = inline:{{forward@example.test=x@dead.test},"
    " {list@example.test=alice@example.test bob@example.test gone@dead.test}}"
)
_MAIN = (
    _TRANSPORT,
    _ALIASES,
    f"mynetworks = {' '.join(INSIDE)}",
    "smtpd_reject_unlisted_recipient = no",  # else there is no backscatter
)
_FILTER = ("content_filter = filter:[127.0.0.1]:10024",)
_PROXY = ("smtpd_proxy_filter = 127.0.0.1:10024",)
_MASTER = """\
filter unix - - n - 5 smtp
    -o smtp_send_xforward_command=yes
127.0.0.1:10026 inet n - n - - smtpd
    -o content_filter= -o smtpd_proxy_filter= -o smtpd_tls_security_level=none
    -o myhostname=filter.example.test
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8
    -o receive_override_options={override}
"""
#: Recipients, and how many bounces a message to them is, of its sender.
RECIPIENTS = (
    (("bob@example.test",), 0),
    (("a@dead.test",), 1),
    (("bob@example.test", "a@dead.test", "b@dead.test"), 2),
    (("c@full.test",), 0),
    (("forward@example.test", "bob@example.test"), 0),
    (("list@example.test", "d@dead.test"), 1),
    (("l@later.test", "a@dead.test"), 2),
    (("l@later.test",), 1),
    (tuple(f"r{n}@dead.test" for n in range(12)), 12),
)
MESSAGES = 200


class Sent(NamedTuple):
    subject: str
    source: str
    login: str
    sender: str
    recipients: tuple[str, ...]
    bounces: int


def mail(dice: random.Random) -> Sent:
    """Choose a message."""
    recipients, bounces = dice.choice(RECIPIENTS)
    what = dice.choice(("account", "account", "device", "stranger", "program", "null"))
    sender = "" if what == "null" else "someone@example.net"
    if what in ("account", "null"):
        login = dice.choice(ACCOUNTS)
        subject = f"account:{login}" if sender else ""
        return Sent(subject, dice.choice(STRANGERS), login, sender, recipients, bounces)
    if what == "device":
        device = dice.choice(DEVICES)
        return Sent(device, device, "", sender, recipients, bounces)
    if what == "program":
        return Sent("uid:0", "", "", sender, recipients, bounces)
    strangers = (("nobody@example.test",), ("forward@example.test",), ("list@example.test",))
    return Sent("", dice.choice(STRANGERS), "", sender, dice.choice(strangers), 0)


@pytest.fixture(params=["xforward", "answer", "proxy"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A Postfix with a filter that knows XFORWARD, one that does not, and one before the queue."""
    with postfix.lab() as made:
        proxy, config = request.param == "proxy", made.mail.config
        main = (*_MAIN, *(_PROXY if proxy else _FILTER))
        made.server.run("postconf", "-c", str(config), "-e", *main)
        override = "" if proxy else "no_address_mappings"
        with (config / "master.cf").open("a") as master:
            master.write(_MASTER.format(override=override))
        database = made.mail.home / "queue" / "sasldb2"
        for account in ACCOUNTS[1:]:
            name, _, domain = account.partition("@")
            argv = ("saslpasswd2", "-pc", "-f", str(database), "-u", domain or HOST, name)
            subprocess.run(argv, input=PASSWORD, text=True, check=True, timeout=30)
        shutil.chown(database, group="postfix")
        program = str(Path(content_filter.__file__))
        xforward = "yes" if request.param == "xforward" else "no"
        command = (sys.executable, program, "10024", "10026", xforward)
        running = made.server.popen(command, stdout=subprocess.PIPE)
        try:
            assert running.stdout
            running.stdout.readline()
            made.mail.reread()
            yield made
        finally:
            running.kill()
            running.communicate()


def send(sent: Sent) -> None:
    with session(sent.source, sent.login) as client:
        client.sendmail(sent.sender, sent.recipients, LETTER)


def hand_in(lab: Lab, sent: Sent) -> None:
    argv = ("sendmail", "-C", str(lab.mail.config), "-f", sent.sender, *sent.recipients)
    lab.server.run(*argv, stdin="Subject: x\n\nx\n")


def used(log: Path) -> Counter[tuple[str, str]]:
    parser, queue = Parser(UTC, log.stat().st_mtime), Queue(Facts(mynetworks=INSIDE))
    found: Counter[tuple[str, str]] = Counter()
    last = "Dec 31 23:59:59 mx postfix/qmgr[2]: FFFFFFFFF: removed"
    for line in [*log.read_text("latin-1").splitlines(), last]:
        event = parser.event(line)
        for use in queue.step(event) if event is not None else ():
            if use.counted in ("messages", "recipients", "bounces"):
                found[use.subject, use.counted] += use.amount
    return found


def test_a_day(lab: Lab) -> None:
    dice = random.Random(15)
    mails = [mail(dice) for _ in range(MESSAGES)]
    outside = [one for one in mails if one.source]
    config = ("-c", str(lab.mail.config))

    def send_all() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, outside))

    lab.client.call(send_all)
    for one in mails:
        if not one.source:
            hand_in(lab, one)
    until(lambda: not lab.mail.queued("maildrop", "incoming", "active"), "all is tried")
    assert lab.mail.queued("deferred")
    lab.server.run("postsuper", *config, "-r", "ALL", "deferred")
    hand_in(
        lab, Sent("uid:0", "", "", "root@example.test", ("bob@example.test",), 0)
    )  # wakes pickup
    until(lambda: not lab.mail.queued("maildrop", "incoming", "active"), "all is tried again")

    def delivered() -> bool:
        if lab.mail.queued("deferred"):
            lab.server.run("postqueue", *config, "-f")  # qmgr may just be starting again
        return not lab.mail.queued("maildrop", "incoming", "active", "deferred")

    with lab.mail.restored():
        later = _TRANSPORT.replace("retry:4.4.1", "error:5.1.2")
        lab.server.run("postconf", *config, "-e", later)
        lab.mail.reread()
        until(delivered, "nothing is left")
    expected: Counter[tuple[str, str]] = Counter()
    for one in mails:
        if one.subject:
            expected[one.subject, "bounces"] += one.bounces
    found = used(lab.mail.log)
    bounces = Counter({key: n for key, n in found.items() if key[1] == "bounces"})
    assert bounces == expected
    assert sum(expected.values()) > MESSAGES
