"""Those who only connect or only log in, at the defaults, each with its evil twin."""

from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from lab.mail.stories import (
    ACCEPTED,
    DELIVERED,
    HOUR,
    MIDNIGHT,
    POSTSCREEN,
    SMTPS,
    SUBMISSION,
    Story,
    failed,
    login,
)
from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

Judge = Callable[[Story], set[tuple[str, str, str]]]
A = "198.51.100.7"
LOST = "lost connection after CONNECT from CLIENT"
NIGHT = range(0, int(8 * HOUR), 10)


def test_a_monitoring_probe(judge: Judge) -> None:
    """Every ten seconds, all night, a probe connects to 25, 587 and 465 and hangs up; then
    it connects to 587 again and quits politely."""
    story = Story()
    for second in NIGHT:
        story.session(second, A, LOST, seconds=0)
        story.session(second, A, LOST, tag=SUBMISSION, seconds=0)
        story.session(second, A, LOST, tag=SMTPS, seconds=0)
        story.session(second + 1, A, tag=SUBMISSION, commands="ehlo=1 quit=1 commands=2")
    assert judge(story) == set()


def test_the_twin_of_the_probe_does_not_let_go(judge: Judge) -> None:
    """It connects and hangs up four times a second, so that Postfix has no process left: whose
    connections are too many is throttled."""
    story = Story()
    for number in range(2400):
        story.session(number / 4, A, LOST, seconds=0)
    assert judge(story) == {("throttle", A, "mx")}


def test_tls_that_does_not_work(judge: Judge) -> None:
    """An old printer cannot agree on a cipher, and tries again every five seconds."""
    story = Story()
    for second in range(0, 7200, 5):
        story.session(second, A, "SSL_accept error from CLIENT: -1", LOST, tag=SMTPS, seconds=1)
    assert judge(story) == set()


def test_the_twin_of_the_printer_wants_every_process(judge: Judge) -> None:
    """It fails its handshakes four times a second; trouble with TLS bans nobody, but the rate
    is throttled."""
    story = Story()
    for number in range(2400):
        story.session(number / 4, A, "SSL_accept error from CLIENT: -1", LOST, tag=SMTPS, seconds=0)
    assert judge(story) == {("throttle", A, "submission")}


def test_hangup_before_the_handshake(judge: Judge) -> None:
    """A good sender's balancer opens connections ahead of time and drops them during postscreen's
    tests; those that it keeps deliver."""
    story = Story()
    for number in range(600):
        at, port = number * 6.0, 20_000 + number
        story.line(at, POSTSCREEN, f"CONNECT from [{A}]:{port} to [198.51.100.2]:25")
        story.line(
            at + 1, POSTSCREEN, f"HANGUP after 0.9 from [{A}]:{port} in tests before SMTP handshake"
        )
        story.line(at + 1, POSTSCREEN, f"DISCONNECT [{A}]:{port}")
        if number % 3 == 0:
            story.line(
                at + 2, POSTSCREEN, f"CONNECT from [{A}]:{port + 20_000} to [198.51.100.2]:25"
            )
            story.line(at + 2, POSTSCREEN, f"PASS OLD [{A}]:{port + 20_000}")
            story.session(at + 2, A, ACCEPTED, commands=DELIVERED)
    assert judge(story) == set()


def test_the_twin_of_the_hangup_talks_first(judge: Judge) -> None:
    """It does not hang up but speaks before the greeting."""
    story = Story()
    for number in range(600):
        at, port = number * 6.0, 20_000 + number
        story.line(at, POSTSCREEN, f"CONNECT from [{A}]:{port} to [198.51.100.2]:25")
        story.line(at, POSTSCREEN, f"PREGREET 8 after 0.1 from [{A}]:{port}: EHLO x\\r\\n")
        story.line(at + 1, POSTSCREEN, f"DISCONNECT [{A}]:{port}")
    assert ("ban", A, "mx") in judge(story)


DOWN = (
    "Connection lost to authentication server",
    "generic failure",
    "Temporary authentication failure",
)


@pytest.mark.parametrize("why", DOWN)
def test_the_authentication_server_is_down(judge: Judge, why: str) -> None:
    """For an hour nobody can log in; an office of thirty tries again and again, some mail programs
    until Postfix has enough of them."""
    story = Story()
    for number in range(1200):
        user = f"user{number % 30}@example.org"
        story.session(
            number * 3.0,
            A,
            failed(user, why),
            failed(user, why, "PLAIN"),
            tag=SUBMISSION,
            commands="ehlo=2 starttls=1 auth=0/2 commands=3/5",
        )
    for number in range(100):
        end = "too many errors after AUTH from CLIENT"
        bodies = [failed("scan@example.org", why)] * 20
        story.session(
            number * 30.0,
            A,
            *bodies,
            end,
            tag=SUBMISSION,
            commands="ehlo=1 auth=0/20 commands=1/21",
        )
    assert judge(story) == set()


def test_the_twin_of_the_office_guesses(judge: Judge) -> None:
    """The same sessions while the authentication server works: thirty names, all of them wrong."""
    story = Story()
    for number in range(1200):
        user = f"user{number % 30}@example.org"
        story.session(
            number * 3.0,
            A,
            failed(user),
            failed(user, method="PLAIN"),
            tag=SUBMISSION,
            commands="ehlo=2 starttls=1 auth=0/2 commands=3/5",
        )
    assert ("ban", A, "submission") in judge(story)


@pytest.mark.parametrize("every", [60, 120, 300])
def test_a_phone_with_an_old_password(judge: Judge, every: int) -> None:
    """The password was changed in the evening; the phone tries the old one all night, with and
    without the domain, two methods each time."""
    story = Story()
    for second in range(0, int(8 * HOUR), every):
        user = ("anna", "anna@example.org")[second // every % 2]
        story.session(
            second,
            A,
            failed(user, method="PLAIN"),
            failed(user),
            tag=SUBMISSION,
            commands="ehlo=2 starttls=1 auth=0/2 quit=1 commands=4/6",
        )
    assert "ban" not in {action for action, _, _ in judge(story)}


def test_the_twin_of_the_phone_has_a_list_of_passwords(judge: Judge) -> None:
    """One name as well, but a new connection for each password, three times a second."""
    story = Story()
    for number in range(3000):
        story.session(
            number / 3,
            A,
            failed("anna"),
            tag=SUBMISSION,
            seconds=1,
            commands="ehlo=1 auth=0/1 commands=1/2",
        )
    assert ("ban", A, "submission") in judge(story)


def test_the_slow_twin_of_the_phone(judge: Judge) -> None:
    """One try every ten minutes all day, each with another name."""
    story = Story()
    for number in range(140):
        story.session(
            number * 600.0,
            A,
            failed(f"name{number}"),
            tag=SUBMISSION,
            commands="ehlo=1 auth=0/1 quit=1 commands=2/3",
        )
    assert ("ban", A, "submission") in judge(story)


def test_an_office_on_the_day_all_passwords_change(judge: Judge) -> None:
    """Thirty people behind one address logged in yesterday evening; in the morning their programs
    all try the old password twice before somebody types the new one."""
    story = Story()
    for number in range(30):
        user = f"user{number}"
        ends = f"auth=1 {DELIVERED}"
        story.session(number * 60.0, A, login(user), tag=SUBMISSION, commands=ends)
        story.session(
            8 * HOUR + number * 20.0,
            A,
            failed(user),
            failed(user),
            tag=SUBMISSION,
            commands="ehlo=2 starttls=1 auth=0/2 quit=1 commands=4/6",
        )
        story.session(9 * HOUR + number * 20.0, A, login(user), tag=SUBMISSION, commands=ends)
    assert "ban" not in {action for action, _, _ in judge(story)}


# A log that stalls


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(str(tmp_path / "t.db"))
    yield opened
    opened.close()


def at_once(story: Story, seconds: float, store: Store) -> set[str]:
    """Read a whole story as it arrives at its end, in one batch, and return what was done."""
    now = Moment(MIDNIGHT + seconds, 5_000_000.0)
    pipeline = Pipeline(Policy(), Facts(), store, None, Parser(UTC, now.wall))
    lines = [line for _, line in story.lines()]
    pipeline.counting.read(lines, range(len(lines)), now)
    return {decision.action for decision in pipeline.settle(now)[0]}


def test_a_log_that_stalls_for_ten_minutes(store: Store) -> None:
    """rsyslog hangs for ten minutes and then writes all at once: a busy forwarder's 50 connections
    a minute, and a monitoring probe every ten seconds."""
    story = Story()
    for number in range(500):
        story.session(number * 1.2, A, ACCEPTED, commands=DELIVERED, seconds=1)
    for second in range(0, 600, 10):
        story.session(second, "203.0.113.9", LOST, seconds=0)
    assert at_once(story, 602, store) == set()


def test_the_twin_in_the_stalled_log(store: Store) -> None:
    """The same stall hid a flood; it is seen as late as it was written, and stopped then."""
    story = Story()
    for number in range(2400):
        story.session(number / 4, A, LOST, seconds=0)
    assert at_once(story, 602, store) == {"throttle"}
