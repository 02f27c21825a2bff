import pytest

from throttled.decide.outcome import judge
from throttled.model import Event, Message


def outcome(message: Message, code: int = 0) -> str:
    return judge(Event("delivery", "", "smtp", "postfix", 7, 0.0, code=code, message=message))


@pytest.mark.parametrize(
    ("dsn", "code", "expected"),
    [
        ("5.1.1", 550, "bounces"),
        ("5.1.10", 550, "bounces"),
        ("5.1.2", 0, "bounces"),
        ("5.2.1", 550, "bounces"),
        ("5.4.1", 550, "bounces"),
        ("5.4.4", 0, "bounces"),
        ("5.5.0", 550, "bounces"),
        ("5.7.1", 554, "bounces"),
        ("5.7.26", 550, "bounces"),
        ("5.7.0", 552, "bounces"),  # Gmail: the content
        ("5.0.0", 550, "bounces"),
        ("", 0, "bounces"),  # before 2.3
        ("", 552, ""),
        ("5.0.0", 552, ""),
        ("5.2.2", 552, ""),  # full
        ("5.2.3", 552, ""),
        ("5.3.4", 552, ""),  # too large
        ("5.3.0", 0, ""),
        ("5.4.6", 0, ""),  # loop
        ("5.4.7", 0, ""),
        ("5.5.2", 500, ""),
        ("5.6.7", 0, ""),
        ("4.1.1", 0, ""),
    ],
)
def test_a_bounce_speaks_of_the_senders_list_or_content(dsn: str, code: int, expected: str) -> None:
    assert outcome(Message("1", dsn=dsn, status="bounced"), code) == expected


@pytest.mark.parametrize(
    ("dsn", "status", "expected"),
    [
        ("4.7.1", "deferred", "deferrals"),
        ("4.7.650", "deferred", "deferrals"),
        ("4.4.1", "deferred", ""),
        ("", "deferred", ""),
        ("5.1.1", "softbounce", ""),
        ("5.1.1", "undeliverable", ""),
        ("2.0.0", "sent", ""),
    ],
)
def test_other_outcomes(dsn: str, status: str, expected: str) -> None:
    assert outcome(Message("1", dsn=dsn, status=status)) == expected


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ("", "bounces"),
        ("Y@Example.NET", "bounces"),
        ("list@example.org", ""),
        ("root", ""),
    ],
)
def test_what_an_alias_forwards_says_nothing_of_the_sender(original: str, expected: str) -> None:
    message = Message(
        "1", recipient="x@example.net", original=original, dsn="5.1.1", status="bounced"
    )
    assert outcome(message) == expected


def test_a_line_without_a_message_says_nothing() -> None:
    assert not judge(Event("connect", "198.51.100.7", "smtpd", "postfix", 7, 0.0))
