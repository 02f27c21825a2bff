"""A decision as a line of the journal: an interface."""

import pytest
from msgspec.structs import replace

from throttled.model import Decision, Report, Snapshot
from throttled.notify.line import behind, expired, line, report

BAN = Decision(
    *(10.0, "ban", "198.51.100.7", "mx", "errors", 1, 610.0, "why", 56, 50),
    above="hard",
    name="host.example.net",
)
TEXT = (
    "ban 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m level=1 "
    "origin=log name=host.example.net"
)


@pytest.mark.parametrize(
    ("decision", "would", "expected"),
    [
        (BAN, False, TEXT),
        (BAN, True, f"would-{TEXT}"),
        (
            Decision(
                *(10.0, "throttle", "2001:db8::/64", "mx", "auth", 0, 70.0, "", 9, 5),
                above="soft",
            ),
            True,
            "would-throttle 2001:db8::/64 scope=mx limit=auth value=9 soft=5 for=1m origin=log",
        ),
        (
            replace(BAN, action="throttle", level=0, name=""),  # a ban that good evidence excused
            False,
            "throttle 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m origin=log",
        ),
        (
            Decision(10.0, "throttle", "198.51.100.7", "mx", "ladder", 0, 610.0, "a ban ends"),
            False,
            "throttle 198.51.100.7 scope=mx limit=ladder for=10m origin=log",
        ),
        (
            Decision(10.0, "exempt", "198.51.100.7", "mx", "network", 0, 3610.0, ""),
            True,
            "would-exempt 198.51.100.7 scope=mx limit=network for=1h origin=log",
        ),
        (
            Decision(10.0, "release", "198.51.100.7", "mx", "protected", 0, 10.0, ""),
            True,
            "unban 198.51.100.7 scope=mx limit=protected origin=log",
        ),
        (
            Decision(10.0, "ban", "198.51.100.7", "mx", 'a "b"\\\né', 0, 20.0, ""),
            False,
            r'ban 198.51.100.7 scope=mx limit="a \x22b\x22\x5c\x0a\xc3\xa9" for=10s origin=log',
        ),
    ],
)
def test_line(decision: Decision, *, would: bool, expected: str) -> None:
    assert line(decision, would=would) == expected


def test_behind_a_proxy() -> None:
    known = ("errors", 2, 3610.0, "why", 56, 50)
    decision = Decision(10.0, "ban", "203.0.113.9", "mx", *known, origin="proxy", above="hard")
    expected = "scope=mx limit=errors value=56 hard=50 for=1h level=2 origin=proxy"
    assert behind(decision) == f"report 203.0.113.9 {expected}"
    ended = replace(decision, action="release")
    assert behind(ended).startswith("unban 203.0.113.9 scope=")


def test_an_end() -> None:
    row = Snapshot("198.51.100.7", "mx", "ban", "errors", 2, 10.0, 3610.0, "why")
    assert expired(row) == "expire 198.51.100.7 scope=mx limit=errors for=1h level=2 origin=log"
    row = Snapshot("198.51.100.7", "mx", "throttle", "ladder", 0, 10.0, 610.0, "why")
    assert expired(row) == "expire 198.51.100.7 scope=mx limit=ladder for=10m origin=log"


@pytest.mark.parametrize(
    ("shown", "subject"),
    [
        ("account:Alice@example.test", "account:Alice@example.test"),
        ("account:a limit=x", '"account:a limit=x"'),
        ("account:\x1b[2J", '"account:\\x1b[2J"'),
    ],
)
def test_a_report(shown: str, subject: str) -> None:
    one = Report(1.0, "account:a", "account-bounces", "bounces", 11, 10, 3600.0, shown)
    expected = "limit=account-bounces count=bounces value=11 soft=10 within=1h"
    assert report(one) == f"report {subject} {expected}"
