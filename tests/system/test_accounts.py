"""What an operator sees of accounts and inside hosts: commands, a real daemon, a real Postfix."""

from collections.abc import Iterator

import pytest

from lab.daemon.daemon import Daemon
from lab.mail import postfix
from lab.mail.postfix import USER, Lab
from lab.mail.session import LETTER, session
from lab.network.netns import until

pytestmark = [pytest.mark.root, pytest.mark.postfix]

STRANGER, DEVICE = "198.18.70.7", "198.18.70.8"
_MAIN = (
    "transport_maps = inline:{{dead.test=error:5.1.1 no such user}}",
    f"mynetworks = 127.0.0.0/8 {DEVICE}/32",
    "smtpd_reject_unlisted_recipient = no",
)
_OBSERVED = 'mode = "observe"\n[limits.account-bounces]\nmode = "throttle"\n'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with postfix.lab() as made:
        made.server.run("postconf", "-c", str(made.mail.config), "-e", *_MAIN)
        made.mail.reread()
        yield made


def send(source: str, messages: int, user: str = "") -> None:
    with session(source, user) as client:
        for _ in range(messages):
            recipients = ["a@dead.test", "bob@example.test"]
            client.sendmail("someone@example.net", recipients, LETTER)


def first(guard: Daemon, *argv: str, code: int = 0) -> str:
    """Return the first line of what a command prints."""
    ended = guard.command(*argv)
    assert ended.returncode == code, ended.stderr
    return (ended.stdout or ended.stderr).splitlines()[0]


def bounced(guard: Daemon, subject: str, count: int) -> bool:
    sender = guard.ask("explain", subject)["sender"]
    return sender is not None and sender["today"]["bounces"] == count


def test_a_stolen_account_is_found_and_explained(lab: Lab, guard: Daemon) -> None:
    guard.start()
    lab.client.call(lambda: send(STRANGER, 11, USER))
    lab.client.call(lambda: send(DEVICE, 3))
    until(lambda: bounced(guard, "account:alice", 11), "all bounces of the account")
    until(lambda: bounced(guard, DEVICE, 3), "all bounces of the device")
    said = first(guard, "explain", "account:Alice")
    assert said == "account:alice: above account-bounces: 11 bounces within 1h, reported above 10"
    known = guard.ask("explain", "account:alice")
    assert "account:alice" not in [row["subject"] for row in known["active"]]
    assert any("status=bounced" in line["text"] for line in known["lines"])
    rows = {row["subject"]: row for row in guard.ask("accounts")["rows"]}
    assert (rows["account:alice"]["networks"], rows[DEVICE]["messages"]) == (1, 3)
    assert rows["domain:example.test"]["received"] == 14
    assert rows["mailbox:bob@example.test"]["received"] == 14
    assert [row["subject"] for row in guard.ask("find", "lic")["rows"]] == ["account:alice"]
    assert first(guard, "find", "carol", code=1) == "nothing matches carol"
    assert "account:alice" in [row["subject"] for row in guard.ask("top")["worst"]]
    refused = "throttled: account:alice cannot be throttled or banned: Postfix does not ask"
    assert first(guard, "ban", "account:alice", code=1) == refused
    allowed = "account:alice is allowed: it is not reported, throttled or banned"
    assert first(guard, "allow", "account:alice") == allowed
    assert first(guard, "disallow", "account:alice") == "account:alice is no longer allowed"
    guard.stop()
    assert guard.ask("accounts", "alice")["rows"][0]["bounces"] == 11
    assert guard.ask("explain", "account:alice")["sender"]["reports"][0]["value"] == 11


def test_what_would_be_throttled_is_listed_while_observing(lab: Lab, guard: Daemon) -> None:
    guard.config.write_text(_OBSERVED + guard.config.read_text())
    guard.start()
    lab.client.call(lambda: send(STRANGER, 11, USER))  # 12 may come in one batch
    until(lambda: guard.rows("account:alice") != [], "the account is listed")
    assert first(guard, "unban", "account:alice").startswith("account:alice would be unbanned")
    line = "would-throttle account:alice limit=account-bounces value=11 soft=10 for=10m origin=log"
    assert line in guard.log.read_text()
