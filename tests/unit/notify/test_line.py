"""A decision as a line of the journal: an interface."""

import pytest

from throttled.model import Decision, Report
from throttled.notify.line import line, report

BAN = Decision(10.0, "ban", "198.51.100.7", "mx", "errors", 1, 610.0, "why", 56, 50)


@pytest.mark.parametrize(
    ("decision", "would", "expected"),
    [
        (BAN, False, "ban 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m level=1"),
        (
            BAN,
            True,
            "would-ban 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m level=1",
        ),
        (
            Decision(10.0, "throttle", "2001:db8::/64", "submission", "auth", 0, 70.0, "", 9, 5),
            True,
            "would-throttle 2001:db8::/64 scope=submission limit=auth value=9 for=1m",
        ),
        (
            Decision(10.0, "release", "198.51.100.7", "mx", "protected", 0, 10.0, ""),
            False,
            "unban 198.51.100.7 scope=mx limit=protected",
        ),
        (
            Decision(10.0, "ban", "198.51.100.7", "mx", 'a "b"\\\né', 0, 20.0, ""),
            False,
            r'ban 198.51.100.7 scope=mx limit="a \x22b\x22\x5c\x0a\xc3\xa9" for=10s',
        ),
    ],
)
def test_line(decision: Decision, *, would: bool, expected: str) -> None:
    assert line(decision, would=would) == expected


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
