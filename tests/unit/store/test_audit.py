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
    store.audit.write(CHANGE)
    store.audit.write(other)
    assert store.audit.changes() == [other, CHANGE]
    assert store.audit.changes(since=1000.0) == [other]
    assert store.audit.changes(subjects=["192.0.2.7", "192.0.2.6"]) == [CHANGE]
    assert store.audit.changes(count=1) == [other]


def test_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHANGES", 3)
    store = Store.open(":memory:")
    for pid in range(5):
        store.audit.write(replace(CHANGE, pid=pid))
    assert [change.pid for change in store.audit.changes()] == [4, 3, 2]
    later = replace(CHANGE, time=CHANGE.time + 366 * 86400)
    store.audit.write(later)
    assert store.audit.changes() == [later]
