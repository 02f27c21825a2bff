"""A decision as a line of the journal: an interface."""

import pytest

from throttled.model import Decision
from throttled.notify.line import line

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
