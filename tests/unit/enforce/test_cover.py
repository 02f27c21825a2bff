"""Whether an address lies in a group of networks."""

import pytest

from throttled.enforce import cover
from throttled.enforce.cover import Cover

GROUP = Cover(["198.51.100.0/24", "203.0.113.7", "2001:db8::/32", "::ffff:192.0.2.0/120"])


@pytest.mark.parametrize(
    "subject",
    ["198.51.100.9", "203.0.113.7", "2001:db8:1::9", "192.0.2.1", "198.51.100.0/28"],
)
def test_inside(subject: str) -> None:
    assert subject in GROUP


@pytest.mark.parametrize(
    "subject",
    ["198.51.101.9", "203.0.113.8", "2001:db9::1", "198.51.0.0/16", "account:alice", "x", ""],
)
def test_outside(subject: str) -> None:
    assert subject not in GROUP


def test_an_empty_group() -> None:
    assert "198.51.100.9" not in Cover()


def test_what_was_found_is_remembered_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cover, "_KNOWN", 2)
    group = Cover(["198.51.100.0/24"])
    for _ in range(2):
        assert [f"198.51.{n}.1" in group for n in (100, 101, 100, 102)] == [1, 0, 1, 0]
    assert len(group._known) <= 2
