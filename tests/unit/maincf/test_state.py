"""Versions, words and numbers of an instance."""

import pytest

from throttled.maincf.state import State, items


def state(**values: str) -> State:
    return State("/etc/postfix", values, values, {}, {})


@pytest.mark.parametrize(
    ("text", "version", "normalizes"),
    [
        ("3.7.11", (3, 7, 11), True),
        ("3.7.9", (3, 7, 9), False),
        ("3.8.4", (3, 8, 4), False),
        ("3.9.0", (3, 9, 0), True),
        ("3.11-20260101", (3, 11, 0), True),
        ("2.11.1", (2, 11, 1), False),
        ("", (0, 0, 0), False),
    ],
)
def test_a_version(text: str, version: tuple[int, int, int], *, normalizes: bool) -> None:
    one = state(mail_version=text)
    assert one.version == version
    words = one.words("smtpd_forbid_bare_newline")
    assert ("normalize" in words) == normalizes
    assert ("note" in words) == (version >= (3, 9))
    assert one.words("soft_bounce") == ("yes", "no")


def test_numbers_and_switches() -> None:
    one = state(smtpd_timeout="5m", soft_bounce="yes", smtpd_forbid_bare_newline="no")
    assert one.number("smtpd_timeout") == 300
    assert one.number("smtpd_hard_error_limit") is None
    assert [one.on(n) for n in ("soft_bounce", "smtpd_forbid_bare_newline", "x")] == [
        True,
        False,
        False,
    ]


def test_a_list() -> None:
    assert items(" a, b\tc,,d ") == ["a", "b", "c", "d"]
