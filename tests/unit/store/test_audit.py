"""The record of what operators changed."""

import pytest
from msgspec.structs import replace

from throttled.model import Change
from throttled.store import audit
from throttled.store.store import Store

CHANGE = Change(
    1000.0, 0, "root", 7, "throttled", "ban", "192.0.2.7", "{}", "done", ok=True, offline=True
)


def test_what_is_written_is_read_the_latest_first() -> None:
    store = Store.open(":memory:")
    other = replace(CHANGE, time=1001.0, subject="192.0.2.8", ok=False, offline=False)
    store.write_change(CHANGE)
    store.write_change(other)
    assert store.changes() == [other, CHANGE]
    assert store.changes(since=1000.0) == [other]
    assert store.changes(subjects=["192.0.2.7", "192.0.2.6"]) == [CHANGE]
    assert store.changes(count=1) == [other]


def test_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHANGES", 3)
    store = Store.open(":memory:")
    for pid in range(5):
        store.write_change(replace(CHANGE, pid=pid))
    assert [change.pid for change in store.changes()] == [4, 3, 2]
    later = replace(CHANGE, time=CHANGE.time + 366 * 86400)
    store.write_change(later)
    assert store.changes() == [later]
