"""Whose mail it is: a real Postfix with SASL, a content filter, bounces and strangers."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from lab.mail import postfix
from lab.mail.postfix import USER, Lab
from lab.mail.session import LETTER, session
from lab.network.netns import until
from throttled.decide.queue import Queue
from throttled.facts import Facts, Spool
from throttled.host import command
from throttled.parse.parser import Parser
from throttled.sources import queue_files

pytestmark = [pytest.mark.root, pytest.mark.postfix]

STRANGER, DEVICE = "198.18.70.7", "198.18.70.8"
_MAIN = (
    "content_filter = filter:[127.0.0.1]:10026",
    "transport_maps = inline:{{dead.test=error:5.1.1 no such user}, {full.test=error:5.2.2 full}}",
    "virtual_alias_maps = inline:{{forward@example.test=x@dead.test}}",
    f"mynetworks = 127.0.0.0/8 {DEVICE}/32",
    "smtpd_reject_unlisted_recipient = no",  # else smtpd refuses what the error transport bounces
)
_MASTER = """\
filter unix - - n - - smtp
    -o smtp_send_xforward_command={xforward}
127.0.0.1:10026 inet n - n - - smtpd
    -o content_filter= -o myhostname=filter.example.test -o smtpd_proxy_filter=
    -o smtpd_authorized_xforward_hosts=127.0.0.0/8
    -o receive_override_options={override}
"""
#: In front of the queue: what takes the message at last expands aliases.
_PROXY = ("content_filter =", "smtpd_proxy_filter = 127.0.0.1:10026")
MESSAGES = 40


@pytest.fixture(scope="module", params=["xforward", "answer", "proxy"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A Postfix whose filter is its own client: with XFORWARD, without, and before the queue."""
    proxy = request.param == "proxy"
    with postfix.lab() as made:
        # Not appended: master warns of what is set twice, and waits for its own postlogd.
        made.server.run("postconf", "-c", str(made.mail.config), "-e", *_MAIN)
        if proxy:
            made.server.run("postconf", "-c", str(made.mail.config), "-e", *_PROXY)
        with (made.mail.config / "master.cf").open("a") as master:
            xforward = "yes" if request.param == "xforward" else "no"
            override = "" if proxy else "no_address_mappings"
            master.write(_MASTER.format(xforward=xforward, override=override))
        made.mail.reread()
        yield made


def send(source: str, recipients: list[str], user: str = "", messages: int = MESSAGES) -> None:
    with session(source, user) as client:
        for _ in range(messages):
            client.sendmail("someone@example.net", recipients, LETTER)


def drained(lab: Lab) -> bool:
    """Return whether every message was delivered or returned: nothing is in the queue."""
    removed = lab.mail.log.read_text("latin-1").count(": removed")
    return removed >= 3 * MESSAGES and not lab.mail.queued("incoming", "active", "deferred")


def used(log: Path) -> Counter[tuple[str, str]]:
    parser = Parser(UTC, log.stat().st_mtime)
    queue = Queue(Facts(mynetworks=("127.0.0.0/8", f"{DEVICE}/32")))
    found: Counter[tuple[str, str]] = Counter()
    for line in log.read_text("latin-1").splitlines():
        event = parser.event(line)
        for use in queue.step(event) if event is not None else ():
            received = use.counted == "received" or use.subject.startswith("mailbox:")
            if use.counted not in ("bytes", "networks") and not received:
                found[use.subject, use.counted] += use.amount
    return found


def test_every_bounce_is_of_who_sent_it(lab: Lab) -> None:
    """Strangers' mail, forwarded mail and full mailboxes are nobody's."""
    account = ["a@dead.test", "b@dead.test", "c@full.test", "forward@example.test"]
    lab.client.call(lambda: send(STRANGER, account, USER))
    lab.client.call(lambda: send(STRANGER, ["forward@example.test", "bob@example.test"]))
    lab.client.call(lambda: send(DEVICE, ["d@dead.test", "bob@example.test"]))
    until(lambda: drained(lab), "all mail is dealt with")
    found = used(lab.mail.log)
    assert found == {
        ("account:alice", "messages"): MESSAGES,
        ("account:alice", "recipients"): 4 * MESSAGES,
        ("account:alice", "bounces"): 2 * MESSAGES,
        (DEVICE, "messages"): MESSAGES,
        (DEVICE, "recipients"): 2 * MESSAGES,
        (DEVICE, "bounces"): MESSAGES,
    }


def test_messages_queued_before_the_start_are_known_from_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no more rights than in the unit."""
    unit = Path(__file__).parents[2] / "packaging/systemd/throttled.service"
    [rights] = re.findall(r"^CapabilityBoundingSet=(.*)", unit.read_text(), re.MULTILINE)
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in rights.split())
    limited = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{names}", "--")
    monkeypatch.setattr(queue_files, "PAUSE", 0.0)
    main = (
        "transport_maps = inline:{{later.test=retry:4.4.1 later}}",
        "smtpd_reject_unlisted_recipient = no",
        f"mynetworks = 127.0.0.0/8 {DEVICE}/32",
    )
    with postfix.lab() as made:
        made.server.run("postconf", "-c", str(made.mail.config), "-e", *main)
        made.mail.reread()
        made.client.call(lambda: send(STRANGER, ["a@later.test"], USER, messages=2))
        made.client.call(lambda: send(DEVICE, ["a@later.test"], messages=3))
        until(lambda: made.mail.log.read_text().count("=deferred") == 5, "five are deferred")
        queue = Queue(Facts(mynetworks=("127.0.0.0/8", f"{DEVICE}/32")))

        spool = Spool(str(made.mail.config), str(made.mail.home / "queue"), "postfix", 100)

        def run(*argv: str, seconds: float) -> str:
            return command.run(*limited, *argv, seconds=seconds)

        asyncio.run(queue_files.learn(queue, [spool], run))
        ids = re.findall(r": (\w+): client=", made.mail.log.read_text())
    assert Counter(map(queue.subject, ids)) == {"account:alice": 2, DEVICE: 3}
