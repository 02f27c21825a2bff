"""Attackers that do good first, to buy what comes after; the configuration is the default one."""

from collections.abc import Callable

import pytest

from lab.mail.stories import (
    ACCEPTED,
    DELIVERED,
    HOUR,
    SUBMISSION,
    Story,
    failed,
    login,
)

Judge = Callable[[Story], set[tuple[str, str, str]]]
A = "198.51.100.7"
BAD_LOGIN = "ehlo=1 auth=0/1 quit=1 commands=2/3"


def test_a_64_whose_addresses_all_delivered_before(judge: Judge) -> None:
    """Two tiny mails of each of 100 addresses, then guesses from all of them in turn."""
    story = Story()
    clients = [f"2001:db8:5:5::{number + 1:x}" for number in range(100)]
    for number, client in enumerate([*clients, *clients]):
        story.session(number * 10.0, client, ACCEPTED, commands=DELIVERED)
    for number in range(2000):
        story.session(
            24 * HOUR + 2 * number, clients[number % 100], failed("boss"), commands=BAD_LOGIN
        )
    done = judge(story)
    assert ("throttle", "2001:db8:5:5::/64", "mx") in done
    assert sum(action == "exempt" for action, _, _ in done) == 16


def test_a_24_whose_good_senders_all_go_first(judge: Judge) -> None:
    """The honest twin: a provider with more senders than that in one /24, a few of them bots."""
    story = Story()
    good = [f"203.0.113.{number + 1}" for number in range(60)]
    for number, client in enumerate([*good, *good]):
        story.session(number * 10.0, client, ACCEPTED, commands=DELIVERED)
    for number in range(2000):
        client = f"203.0.113.{100 + number % 50}"
        story.session(24 * HOUR + 2 * number, client, failed("boss"), commands=BAD_LOGIN)
    done = judge(story)
    assert ("throttle", "203.0.113.0/24", "mx") in done
    assert {("exempt", client, "mx") for client in good} <= done


@pytest.mark.parametrize("name", ["", "boss"])
def test_the_owner_of_one_account_tries_others_before_each_login(judge: Judge, name: str) -> None:
    """Failures without a name, or with one that lacks the domain, may be any account's."""
    story = Story()
    tries = [failed(name)] * 3
    for number in range(400):
        ends = "ehlo=1 auth=1/4 mail=1 rcpt=1 data=1 quit=1 commands=6/9"
        bodies = [*tries, login("boss@own.example")]
        story.session(number * 10.0, A, *bodies, commands=ends, tag=SUBMISSION)
    assert {action for action, _, _ in judge(story)} & {"throttle", "ban"}


def test_a_program_that_tries_two_other_mechanisms_first(judge: Judge) -> None:
    """The honest twin with one account: a shop that sends 200 mails in half an hour."""
    story = Story()
    line = "warning: CLIENT: SASL NTLM authentication failed: authentication failure"
    for number in range(200):
        ends = "ehlo=1 auth=1/3 mail=1 rcpt=1 data=1 quit=1 commands=6/8"
        bodies = [line, line.replace("NTLM", "GSSAPI"), login("shop@example.org")]
        story.session(number * 9.0, A, *bodies, commands=ends, tag=SUBMISSION)
    assert judge(story) == set()


def test_an_office_whose_programs_try_another_mechanism_first(judge: Judge) -> None:
    """The honest twin: thirty accounts, some sixty mails of each in a day."""
    story = Story()
    for number in range(1800):
        line = "warning: CLIENT: SASL NTLM authentication failed: authentication failure"
        ends = "ehlo=1 auth=1/2 mail=1 rcpt=1 data=1 quit=1 commands=6/7"
        bodies = [line, login(f"u{number % 30}@example.org")]
        story.session(number * 20.0, A, *bodies, commands=ends, tag=SUBMISSION)
    assert judge(story) == set()
