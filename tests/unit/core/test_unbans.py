"""Who is free although the store does not know it."""

from collections.abc import Iterator

import pytest

from throttled.core import unbans as module
from throttled.core.unbans import PendingUnbans
from throttled.errors import StoreError
from throttled.model import SCOPES, Decision, NetworkPast, Past, Scope
from throttled.store.store import Store

WALL = 1_800_000_000.0
A, B = "198.51.100.7", "198.51.100.8"


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store.open(":memory:")
    bans = [
        Decision(WALL, "ban", subject, scope, "errors", 2, WALL + 600, "")
        for subject in (A, B)
        for scope in SCOPES
    ]
    opened.record(WALL, bans)
    yield opened
    opened.close()


def left(store: Store) -> set[tuple[str, Scope]]:
    return {(row.subject, row.scope) for row in store.listing.snapshots(WALL)}


def test_unbans_of_one_subject_of_a_scope_and_of_all_are_recorded(store: Store) -> None:
    pending = PendingUnbans()
    pending.add([(A, "mx")], WALL + 1, WALL + 99)
    pending.flush(store)
    assert not pending
    assert left(store) == {(A, "submission"), (B, "mx"), (B, "submission")}
    assert store.past([(A, "mx")], WALL + 2)[A, "mx"].exempt_until == WALL + 99
    pending.add([("", "mx")], WALL + 1)
    pending.flush(store)
    assert left(store) == {(A, "submission"), (B, "submission")}
    pending.add([("", scope) for scope in SCOPES], WALL + 1)
    pending.flush(store)
    assert (left(store), bool(pending)) == (set(), False)


def test_what_cannot_be_recorded_stays_pending(store: Store) -> None:
    store._database.connection.execute("PRAGMA query_only = 1")
    pending = PendingUnbans()
    pending.add([(A, "mx")], WALL + 1)
    with pytest.raises(StoreError):
        pending.flush(store)
    assert pending.others(store.listing.snapshots(WALL, order="subject"))[0].scope == "submission"


def test_nothing_is_known_against_those_who_are_free() -> None:
    pending = PendingUnbans()
    pending.add([(A, "mx")], WALL, WALL + 99)
    past = Past(3, WALL, "ban", WALL + 600, deliveries=5)
    known = pending.pasts({(A, "mx"): past, (A, "submission"): past})
    assert known[A, "mx"] == Past(deliveries=5, exempt_until=WALL + 99)
    assert known[A, "submission"] == past
    pending.add([("", "mx")], WALL)
    network = NetworkPast(12, 1, "ban", WALL + 600)
    assert pending.pasts({("n", "mx"): network}) == {("n", "mx"): NetworkPast(0, 1)}


def test_at_the_cap_the_earliest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING", 2)
    pending = PendingUnbans()
    for subject in (A, B, A, "203.0.113.1"):
        pending.add([(subject, "mx")], WALL)
    assert [pending.covers(s, "mx") for s in (A, B, "203.0.113.1")] == [True, False, True]
    pending = PendingUnbans()
    pending.add([("", "submission")], WALL)
    pending.add([(subject, "mx") for subject in (A, B, "203.0.113.1")], WALL)
    assert pending.covers(A, "submission")
