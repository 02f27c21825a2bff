"""Mail of the daemon and of `throttled report`, through the real Postfix into a mailbox."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import msgspec
import pytest

from lab.daemon.daemon import Daemon
from lab.mail.postfix import Lab
from lab.network.netns import until
from throttled.analysis.report import DAY
from throttled.model import Decision
from throttled.service.first_week import Observed
from throttled.store.hourly import HOUR
from throttled.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.postfix]

_NOTIFY = """\
[notify]
mail = "alice@example.test"
on = ["ban"]
"""


def arrived(lab: Lab, act: Callable[[], object]) -> EmailMessage:
    """Act, and return the mail that this causes."""
    mailbox = lab.mail.home / "mail/alice/new"
    before = set(mailbox.glob("*"))
    act()
    until(lambda: set(mailbox.glob("*")) - before, "a mail")
    [path] = set(mailbox.glob("*")) - before
    found = message_from_bytes(path.read_bytes(), policy=default)
    assert isinstance(found, EmailMessage)
    return found


def test_notifications_arrive_and_count_for_no_sender(lab: Lab, guard: Daemon) -> None:
    guard.configure(_NOTIFY)
    guard.start()
    ended = []
    test = arrived(lab, lambda: ended.append(guard.command("notify", "--test")))
    assert ended[0].stdout == "sent to: mail\n"
    assert test["Subject"].endswith("test of notifications: throttled works")
    assert test["Return-Path"] == "<>"
    assert test["From"].addresses[0].display_name == "throttled"
    ban = arrived(lab, lambda: guard.command("ban", "198.18.70.99"))
    assert "banned 198.18.70.99 in mx" in ban.get_content()
    # The line of its queue file was read: it is in the log that the daemon follows.
    until(lambda: guard.status().tails[0].lag == 0, "the log was read")
    guard.stop()
    guard.start()  # what senders did is recorded
    rows = guard.ask("accounts")["rows"]
    assert {row["subject"].partition(":")[0] for row in rows} <= {"domain", "mailbox"}  # received
    assert sum(row["messages"] for row in rows) == 0


def test_a_receiver_that_fails_is_an_error_and_a_finding(guard: Daemon) -> None:
    guard.start()
    guard.configure(_NOTIFY + 'smtp = "127.0.0.1:1"\n')
    assert guard.command("reload").returncode == 0
    ended = guard.command("notify", "--test")
    assert ended.returncode == 1
    assert "mail server 127.0.0.1:1: " in ended.stderr
    assert "notification failed" in json.dumps(guard.ask("status"))


def test_a_report_by_mail_has_text_and_page(lab: Lab, guard: Daemon) -> None:
    guard.start()
    guard.command("ban", "198.18.70.99")
    report = arrived(lab, lambda: guard.command("report", "--mail", "alice@example.test"))
    text, page = report.iter_parts()
    assert text.get_content().startswith("throttled on ")
    assert page.get_content_type() == "text/html"
    assert "Content-Security-Policy" in page.get_content()
    assert report["Auto-Submitted"] == "auto-generated"


def test_after_a_day_of_observing_a_mail_says_what_would_have_been_done(
    lab: Lab, guard: Daemon
) -> None:
    guard.configure(_NOTIFY)
    now = time.time()
    with closing(Store.open(str(guard.home / "throttled.observe.db"))) as store:
        store.known.put("observing", msgspec.json.encode(Observed(now - DAY - 60, now)), now)
        ban = Decision(now - HOUR, "ban", "198.18.70.98", "mx", "errors", 1, now + 600, "x")
        store.record(now, [ban])
    mail = arrived(lab, lambda: guard.start("--mode", "observe"))
    assert "after a day of observing: 1 client would have been banned" in mail["Subject"]
    assert "To enforce:    throttled mode enforce" in mail.get_content()
    until(lambda: "observed for a day: 1 client would" in guard.log.read_text(), "the line")


def test_one_command_enforces(lab: Lab, guard: Daemon) -> None:
    assert guard.command("mode", "observe").returncode == 0
    guard.start()
    assert guard.status().mode == "observe"
    first = observed_since(guard)
    ended = guard.command("mode", "enforce")
    assert ended.returncode == 0
    assert guard.status().mode == "enforce"
    assert "198.18.70.99" not in lab.server.run("nft", "list", "ruleset").stdout
    guard.command("ban", "198.18.70.99")
    assert "198.18.70.99" in lab.server.run("nft", "list", "ruleset").stdout
    assert guard.command("mode", "observe").returncode == 0
    until(lambda: observed_since(guard) > first, "the first week begins again")


def observed_since(guard: Daemon) -> float:
    """Return since when the host observes."""
    found: list[float] = []

    def read() -> bool:
        with closing(Store.open(str(guard.home / "throttled.observe.db"), readonly=True)) as store:
            value = store.known.get("observing")
        if value:
            found.append(msgspec.json.decode(value, type=Observed).since)
        return bool(value)

    until(read, "the time is stored")
    return found[0]
