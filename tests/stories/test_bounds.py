"""What good evidence, networks, names and the brake excuse at the defaults, and what they do not.

Each honest story has its evil twin. More of them: test_honest.py, test_sending.py,
test_connecting.py; which limit each is about: docs/tuning.md.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.mail.stories import (
    ACCEPTED,
    DEAD,
    DELIVERED,
    HOUR,
    RELAY,
    SUBMISSION,
    Story,
    failed,
    login,
    replayed,
)
from throttled.config.schema import Config
from throttled.settings import Protect

Judge = Callable[[Story], set[tuple[str, str, str]]]
A = "198.51.100.7"
DAY = 24 * HOUR
REFUSED = "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"
DENIED = "ehlo=1 auth=0/1 quit=1 commands=2/3"
LOST = "lost connection after CONNECT from CLIENT"
GARBAGE = "warning: non-SMTP command from CLIENT: GET / HTTP/1.1"


def actions(done: set[tuple[str, str, str]]) -> set[str]:
    return {action for action, _, _ in done}


def subjects(done: set[tuple[str, str, str]], action: str) -> set[str]:
    return {subject for what, subject, _ in done if what == action}


# One limit says nothing of another


def _busy_sender() -> Story:
    """Return a sender of 60 mails a minute, one session a minute of which is garbage."""
    story = Story()
    for second in range(1800):
        story.session(second, A, ACCEPTED, commands=DELIVERED, seconds=0)
        if second % 60 == 30:
            story.session(second, A, GARBAGE, commands="unknown=0/1 commands=0/1", seconds=0)
    return story


def test_a_busy_sender_with_a_broken_program(judge: Judge) -> None:
    assert judge(_busy_sender()) == set()


def test_the_twin_of_the_busy_sender_guesses_in_one_connection(judge: Judge) -> None:
    """Behind the same mails and garbage: neither hides its failed logins."""
    story = _busy_sender()
    ends = "ehlo=1 auth=0/600 quit=1 commands=2/602"
    story.session(60, A, *[failed("anna")] * 600, commands=ends, seconds=600)
    assert ("ban", A, "mx") in judge(story)


# Leniency has a bound


def test_a_customer_with_an_old_password(judge: Judge) -> None:
    """Logged in yesterday; tonight ten programs behind its address try the old password."""
    story = Story()
    for number in range(10):
        ends = f"auth=1 {DELIVERED}"
        story.session(9 * HOUR + number, A, login(f"u{number}"), tag=SUBMISSION, commands=ends)
    for number in range(120):
        line = failed(f"u{number % 10}")
        story.session(DAY + number * 60.0, A, line, tag=SUBMISSION, commands=DENIED)
    assert "ban" not in actions(judge(story))


@pytest.mark.parametrize("tag", ["postfix/smtpd", SUBMISSION])
def test_the_twin_of_the_customer_sent_two_mails(judge: Judge, tag: str) -> None:
    """One tiny mail on each of two days, and then a user name a minute."""
    story = Story()
    for day in range(2):
        story.session(day * DAY, A, ACCEPTED, commands=DELIVERED)
    for number in range(60):
        line = failed(f"name{number}")
        story.session(DAY + HOUR + number * 60.0, A, line, tag=tag, commands=DENIED)
    assert "ban" in actions(judge(story))


def test_the_twin_of_the_customer_has_one_mail_from_its_64(judge: Judge) -> None:
    """It takes a new address of the /64 for each of its tries."""
    story = Story()
    story.session(0, "2001:db8:bad:1::1", ACCEPTED, commands=DELIVERED)
    for number in range(900):
        client = f"2001:db8:bad:1:{number:x}::1"
        story.session(HOUR + number / 2, client, failed("anna"), commands=DENIED, seconds=0)
    assert ("ban", "2001:db8:bad:1::/64", "mx") in judge(story)


def _known_sender(dead: int) -> Story:
    """Return a sender of a hundred mails on two days each, with dead recipients on the third."""
    story = Story()
    for number in range(200):
        at = number // 100 * DAY + number % 100 * 60.0
        story.session(at, A, ACCEPTED, commands=DELIVERED)
    for number in range(dead):
        story.session(2 * DAY + number, A, DEAD, commands=REFUSED, seconds=0)
    return story


def test_a_known_sender_with_an_old_list(judge: Judge) -> None:
    assert judge(_known_sender(200)) == {("throttle", A, "mx")}


def test_the_twin_of_the_known_sender_is_adopted(judge: Judge) -> None:
    """What speaks for it has an end: five times the limit."""
    assert ("ban", A, "mx") in judge(_known_sender(300))


def test_a_gateway_in_front(judge: Judge) -> None:
    """It has no list of recipients: ten mails a minute are taken and five refused, from now on."""
    story = Story()
    for number in range(15 * 60):
        line, ends = (DEAD, REFUSED) if number % 3 == 0 else (ACCEPTED, DELIVERED)
        story.session(number * 4.0, A, line, commands=ends)
    assert judge(story) == set()


def test_the_twin_of_the_gateway_sends_a_mail_now_and_then(judge: Judge) -> None:
    """One in fifteen sessions delivers; the others look for addresses."""
    story = Story()
    for number in range(15 * 60):
        line, ends = (DEAD, REFUSED) if number % 15 else (ACCEPTED, DELIVERED)
        story.session(number * 4.0, A, line, commands=ends)
    assert ("ban", A, "mx") in judge(story)


def test_a_list_server_at_four_sessions_a_second(judge: Judge) -> None:
    """Each delivers; its evil twin is the probe of test_connecting.py that does not."""
    story = Story()
    for number in range(2400):
        story.session(number / 4, A, ACCEPTED, commands=DELIVERED, seconds=0)
    assert judge(story) == set()


# Networks


def test_a_pool_of_a_64_that_delivers(judge: Judge) -> None:
    """Ten connections a second, each from another address, and each brings a mail."""
    story = Story()
    for number in range(3000):
        client = f"2001:db8:4864:20::{number:x}"
        story.session(number / 10, client, ACCEPTED, commands=DELIVERED, seconds=0)
    assert judge(story) == set()


def test_the_twin_of_the_pool_only_connects(judge: Judge) -> None:
    story = Story()
    for number in range(3000):
        story.session(number / 10, f"2001:db8:4864:20::{number:x}", LOST, seconds=0)
    assert judge(story) == {("throttle", "2001:db8:4864:20::/64", "mx")}


def test_a_provider_whose_customers_mistype(judge: Judge) -> None:
    """200 addresses of a /24: all log in every hour, a few after a failure."""
    story = Story()
    for number in range(1600):
        client, user = f"203.0.113.{number % 200}", f"user{number % 200}"
        bodies = [failed(user), login(user)] if number % 20 == 0 else [login(user)]
        ends = f"auth=1/{len(bodies)} {DELIVERED}"
        story.session(number * 18.0, client, *bodies, tag=SUBMISSION, commands=ends)
    assert judge(story) == set()


def test_the_twin_of_the_provider_takes_turns(judge: Judge) -> None:
    """Each of 200 addresses fails once in twenty minutes; none of 400 accounts is under attack."""
    story = Story()
    for number in range(1600):
        client = f"203.0.113.{number % 200}"
        line = failed(f"user{number % 400}")
        story.session(number * 6.0, client, line, tag=SUBMISSION, commands=DENIED)
    assert judge(story) == {("throttle", "203.0.113.0/24", "submission")}


def test_the_twin_of_the_provider_guesses_three_accounts(judge: Judge) -> None:
    """The same, but it tries three accounts, which are under attack after 90 tries."""
    story = Story()
    for number in range(1600):
        client = f"203.0.113.{number % 200}"
        line = failed(f"user{number % 3}")
        story.session(number * 6.0, client, line, tag=SUBMISSION, commands=DENIED)
    done = judge(story)
    assert ("ban", "203.0.113.0/24", "submission") in done
    assert {"203.0.113.100", "203.0.113.199"} <= subjects(done, "ban")


GOOD = tuple(f"203.0.113.{number}" for number in (10, 11, 12))


def _hosting() -> Story:
    """Return a /24 with three good senders and twenty bots that relay in turns."""
    story = Story()
    for number in range(30):
        story.session(number * 60.0, GOOD[number % 3], ACCEPTED, commands=DELIVERED)
    for number in range(60):
        client = f"203.0.113.{100 + number % 20}"
        story.session(HOUR + number * 5.0, client, RELAY, commands=REFUSED)
    return story


def test_good_senders_in_a_throttled_network(judge: Judge) -> None:
    done = judge(_hosting())
    assert ("throttle", "203.0.113.0/24", "mx") in done
    assert subjects(done, "exempt") == set(GOOD)
    assert not {*subjects(done, "throttle"), *subjects(done, "ban")} & set(GOOD)


def test_the_twin_among_the_good_senders_joins_in(judge: Judge) -> None:
    """One of the three is taken over: it gets no entry of its own, the other two do."""
    story = _hosting()
    for number in range(100):
        story.session(HOUR - 200 + number, GOOD[0], RELAY, commands=REFUSED, seconds=0)
    done = judge(story)
    assert ("ban", GOOD[0], "mx") in done
    assert subjects(done, "exempt") == set(GOOD[1:])


# The brake


def test_an_error_of_ours_hits_good_senders(judge: Judge) -> None:
    """Twenty senders of two days are refused as relays at once: our list of domains is lost."""
    story = Story()
    senders = [f"198.51.100.{number}" for number in range(20)]
    for sender in senders:
        story.session(0, sender, ACCEPTED, commands=DELIVERED)
        story.session(24 * HOUR, sender, ACCEPTED, commands=DELIVERED)
    for number in range(40):
        for place, sender in enumerate(senders):
            at = 26 * HOUR + number * 2.0 + place / 100
            story.session(at, sender, RELAY, commands=REFUSED)
    assert actions(judge(story)) == {"throttle", "exempt"}


SIX = [f"2001:db8:0:{1 + number % 4}::{number:x}" for number in range(1, 421)]
WIDE = [f"2001:db8:0:{1 + number % 256:x}::{number:x}" for number in range(1, 421)]
FOUR = [f"198.18.{number % 250}.{7 + number // 250}" for number in range(300)]
PREPARED = [(SIX, 2), (SIX, 1), (FOUR, 1), (WIDE, 2), (FOUR, 2)]


@pytest.mark.parametrize(("clients", "mails"), PREPARED)
def test_the_twin_of_the_hit_prepared_itself(judge: Judge, clients: list[str], mails: int) -> None:
    """420 addresses of one /56 count as at most 256 senders, and mail of a single day makes no good
    sender, whatever its number: all offend at once, and all are banned."""
    story = Story()
    for number, client in enumerate(clients):
        for mail in range(mails):
            at = 100.0 * mail + number / 10
            story.session(at, client, ACCEPTED, commands=DELIVERED, seconds=0)
        for again in range(6):
            at = HOUR + again + number / 1000
            ends = "unknown=0/2 commands=0/2"
            story.session(at, client, GARBAGE, GARBAGE, commands=ends, seconds=0)
    assert set(clients) <= subjects(judge(story), "ban")


# Quiet servers and slow guessing


def _quiet(burst: int) -> Story:
    """Return a client that has unknown recipients now and then, and a newcomer between bursts."""
    story = Story()
    for number in range(16):
        story.session(number * 100.0, A, DEAD, commands=REFUSED)
    for start in (1600, 1700):
        for number in range(burst):
            story.session(start + number, A, DEAD, commands=REFUSED, seconds=0)
    story.session(1690, "203.0.113.9", DEAD, commands=REFUSED)
    return story


def test_a_client_of_a_quiet_server(judge: Judge) -> None:
    assert judge(_quiet(6)) == set()


def test_the_twin_on_the_quiet_server_is_not_forgotten(judge: Judge) -> None:
    """No new client came for two windows, then one does: the counts of the others stay."""
    assert judge(_quiet(12)) == {("throttle", A, "mx")}


@pytest.mark.parametrize("bodies", [(), (failed(""),)])
def test_slow_guessing_without_a_name(judge: Judge, bodies: tuple[str, ...]) -> None:
    """A try every two minutes all day, shown by the counters of `disconnect` only, or without a
    name; its honest twin is the phone of test_connecting.py."""
    story = Story()
    for number in range(720):
        story.session(number * 120.0, A, *bodies, commands=DENIED)
    assert judge(story) == {("throttle", A, "mx")}


END = "too many errors after AUTH from CLIENT"


def test_a_phone_where_postfix_ends_the_session_at_once(judge: Judge) -> None:
    """smtpd_hard_error_limit = 1: its one failure is one, and no garbage."""
    story = Story()
    for number in range(480):
        commands = "ehlo=1 auth=0/1 commands=1/2"
        story.session(number * 75.0, A, failed("anna"), END, tag=SUBMISSION, commands=commands)
    assert judge(story) == {("throttle", A, "submission")}


def test_the_twin_of_that_phone_is_faster(judge: Judge) -> None:
    story = Story()
    for number in range(480):
        commands = "ehlo=1 auth=0/1 commands=1/2"
        story.session(number * 2.0, A, failed("anna"), END, tag=SUBMISSION, commands=commands)
    assert ("ban", A, "submission") in judge(story)


# Names


def _named(name: str, helo: str) -> Story:
    story = Story()
    line = RELAY.replace("helo=<sender.example>", f"helo=<{helo}>")
    for number in range(100):
        story.session(number, A, line, commands=REFUSED, name=name)
    return story


def _with_names(story: Story, path: Path) -> set[str]:
    config = Config(protect=Protect(names=("mx.partner.example", ".office.example")))
    return {d.action for d in replayed(story, config, path)}


@pytest.mark.parametrize("name", ["mx.partner.example", "pc1.office.example"])
def test_a_partner_with_a_confirmed_name(tmp_path: Path, name: str) -> None:
    assert _with_names(_named(name, "x.example"), tmp_path / "mail.log") == set()


@pytest.mark.parametrize("name", ["unknown", "mx.partner.example.net", "office.example.net"])
def test_the_twin_of_the_partner_only_says_its_name(tmp_path: Path, name: str) -> None:
    """As its HELO name, or with a name of its own that begins like it."""
    assert "ban" in _with_names(_named(name, "mx.partner.example"), tmp_path / "mail.log")
