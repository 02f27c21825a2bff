"""What the kernel refused for want of room."""

import pytest

from throttled.core.refused import Refused
from throttled.enforce.backend import Applied, FullSet
from throttled.model import Action, Entry, Scope

BANS, OTHERS = FullSet("mx_ban4", "mx", "ban"), FullSet("mx_ban6", "mx", "ban")
SLOW = FullSet("mx_throttle4", "mx", "throttle")


def entry(n: int, seconds: float = 60.0, action: Action = "ban", scope: Scope = "mx") -> Entry:
    return Entry(f"198.18.0.{n}", scope, action, seconds)


def refuse(refused: Refused, *entries: Entry, full: FullSet = BANS) -> None:
    failed = tuple((each, "full") for each in entries)
    refused.update(entries, Applied(failed, frozenset({full})), 100.0)


def test_what_does_not_fit_is_counted_until_it_is_taken_or_would_have_expired() -> None:
    refused = Refused()
    refused.update([entry(9)], Applied(((entry(9), "no address"),)), 100.0)
    assert refused.sets() == []
    refuse(refused, entry(1), entry(2, 600.0), entry(3))
    refuse(refused, entry(1), entry(4, action="throttle"), full=SLOW)  # an old ban, a bad throttle
    assert refused.sets() == [BANS, SLOW]
    assert refused.counts["mx", "ban"] == 2
    assert refused.counts["mx", "throttle"] == 1
    assert entry(2) in refused
    assert entry(1) not in refused
    refused.update([entry(3, 0.0)], Applied(), 101.0)
    assert refused.counts["mx", "ban"] == 1
    refused.expire(161.0)
    assert refused.sets() == [BANS]
    refused.expire(701.0)
    assert refused.sets() == []


def test_a_set_is_full_as_long_as_something_of_its_kind_is_refused() -> None:
    refused = Refused()
    refuse(refused, entry(1), full=OTHERS)
    refuse(refused, entry(2))
    assert refused.sets() == [BANS, OTHERS]
    refused.update([entry(1), entry(2)], Applied(), 101.0)
    assert refused.sets() == []
    refuse(refused, entry(2))
    assert refused.sets() == [BANS]  # not the one that had room since
    refused.clear()
    assert refused.sets() == []
    assert refused.counts["mx", "ban"] == 0


def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.core.refused.LIMIT", 3)
    refused = Refused()
    refuse(refused, *map(entry, range(1, 6)))
    assert refused.counts["mx", "ban"] == 3
    refused.update([entry(1), entry(5)], Applied(), 101.0)
    assert refused.counts["mx", "ban"] == 2
