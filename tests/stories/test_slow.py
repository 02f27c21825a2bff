"""Who takes hours or days to attack or to become known, with twins; default configuration."""

from collections.abc import Callable

import pytest

from lab.mail.stories import ACCEPTED, DEAD, DELIVERED, HOUR, Story, rejected
from throttled.model import Decision, Rate

Decide = Callable[[Story], list[Decision]]
A = "198.51.100.7"
ONE = "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"
NULL = DEAD.replace("from=<list@sender.example>", "from=<>")
RELAY = rejected("RCPT", "454 4.7.1 <u@else.example>: Relay access denied")
LISTED = rejected(
    "RCPT", "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.test"
)
SLOW = Rate(2, 3600.0, 1)
CALLOUTS = Rate(30, 3600.0, 5)


def throttles(decisions: list[Decision], limit: str) -> set[tuple[str, Rate | None]]:
    """Return who was throttled by a limit, and by which rate."""
    return {(d.subject, d.rate) for d in decisions if (d.action, d.limit) == ("throttle", limit)}


@pytest.mark.parametrize(("line", "every"), [(DEAD, 30.0), (RELAY, 100.0), (LISTED, 60.0)])
def test_errors_all_day(decisions: Decide, line: str, every: float) -> None:
    """Two unknown recipients a minute, or 860 relay attempts a day: nothing in ten minutes that
    [throttle] would slow down."""
    story = Story()
    for number in range(int(10 * HOUR / every)):
        story.session(number * every, A, line, commands=ONE)
    done = decisions(story)
    assert throttles(done, "errors-day") == {(A, SLOW)}
    assert {d.action for d in done} == {"throttle"}


def test_a_24_that_takes_turns_all_day(decisions: Decide) -> None:
    """Six unknown recipients a minute, one of each address."""
    story = Story()
    for number in range(2900):
        story.session(number * 10.0, f"203.0.113.{1 + number % 200}", DEAD, commands=ONE)
    assert {(d.action, d.subject) for d in decisions(story)} == {("throttle", "203.0.113.0/24")}


def test_a_newsletter_to_a_large_site_all_day(decisions: Decide) -> None:
    """The honest twin: a tenth of its subscribers is gone, 14,400 in eight hours, and it delivers
    ten messages for each."""
    story = Story()
    commands = "ehlo=1 mail=100 rcpt=100/110 data=100 quit=1 commands=302/312"
    for number in range(1440):
        story.session(number * 20.0, A, ACCEPTED, *[DEAD] * 10, commands=commands, seconds=15)
    assert decisions(story) == []


def test_the_twin_of_the_newsletter_delivers_a_few(decisions: Decide) -> None:
    """A mail for each ten probes."""
    story = Story()
    commands = "ehlo=1 mail=1 rcpt=1/11 data=1 quit=1 commands=5/15"
    for number in range(200):
        story.session(number * 400.0, A, ACCEPTED, *[DEAD] * 10, commands=commands, seconds=15)
    assert throttles(decisions(story), "errors-day") == {(A, SLOW)}


def test_a_harvester_that_looks_like_callouts(decisions: Decide) -> None:
    """One recipient of the null sender in each session, one session in two seconds."""
    story = Story()
    for number in range(600):
        story.session(number * 2.0, A, NULL, commands=ONE, seconds=1)
    done = decisions(story)
    assert throttles(done, "callouts") == {(A, CALLOUTS)}
    assert {d.action for d in done} == {"throttle"}


def test_callouts_of_a_known_sender(decisions: Decide) -> None:
    """The honest twin: it delivered on two days, and verifies what somebody forged for an hour."""
    story = Story()
    for number in range(200):
        story.session(number * 900.0, A, ACCEPTED, commands=DELIVERED)
    for number in range(360):
        story.session(50 * HOUR + number * 9.0, A, NULL, commands=ONE, seconds=1)
    assert {(d.action, d.rate) for d in decisions(story)} == {("throttle", None)}


def _known(mails: int) -> Story:
    """Return a server that delivered on two days, and then comes with many connections."""
    story = Story()
    for number in range(mails):
        at = 24 * HOUR * (number % 2) + number * 60.0
        story.session(at, A, ACCEPTED, commands=DELIVERED)
    return story


def test_a_list_server_with_long_sessions(decisions: Decide) -> None:
    """Four connections a second, each for 30 seconds: that they deliver is known when they end."""
    story = _known(300)
    for number in range(2400):
        story.session(50 * HOUR + number / 4, A, ACCEPTED, commands=DELIVERED, seconds=30)
    assert decisions(story) == []


def test_a_server_that_sends_all_at_once_after_a_pause(decisions: Decide) -> None:
    story = _known(100)
    for number in range(120):
        story.session(50 * HOUR + number / 60, A, ACCEPTED, commands=DELIVERED, seconds=5)
    assert decisions(story) == []


def test_the_twin_of_the_list_server_prepared_itself(decisions: Decide) -> None:
    """Two tiny mails on two days, then connections that want nothing."""
    story = _known(2)
    for number in range(600):
        story.session(50 * HOUR + number / 4, A, commands="ehlo=1 quit=1 commands=2", seconds=30)
    assert throttles(decisions(story), "connections") == {(A, None)}


def test_a_known_gateway_in_a_wave_of_spam(decisions: Decide) -> None:
    """Five unknown recipients for four messages, all day: not by the slow rate, ten a minute."""
    story = _known(100)
    for minute in range(600):
        for number in range(4):
            at = 50 * HOUR + minute * 60.0 + number * 4
            story.session(at, A, ACCEPTED, commands=DELIVERED)
        for number in range(5):
            at = 50 * HOUR + minute * 60.0 + 42 + number
            story.session(at, A, DEAD, commands=ONE)
    assert throttles(decisions(story), "errors-day") == {(A, None)}
