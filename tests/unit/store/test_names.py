"""The addresses of names on the allowlist: what is added, what stays, what goes."""

import pytest

from throttled.errors import RefusedError
from throttled.store import names
from throttled.store.names import ADDRESSES, GRACE
from throttled.store.store import Shift, Store

NOW = 1_700_000_000.0
NAME = "probe.example.net"
A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::1"
KEPT = 0.0, "a note"


def of(store: Store, now: float = NOW) -> dict[str, float]:
    return {row.what: row.missing for row in store.allowlist.entries(now) if row.name == NAME}


def test_what_dns_no_longer_returns_stays_for_a_day(store: Store) -> None:
    assert store.allowlist.resolve(NAME, [B, A], KEPT, NOW) == ([B, A], [])
    assert store.allowlist.resolve(NAME, [A, C], None, NOW + 10) == ([C], [])
    assert of(store) == {A: 0.0, C: 0.0, B: NOW + 10}
    assert store.allowlist.resolve(NAME, [A, C], None, NOW + 20) == ([], [])
    assert of(store) == {A: 0.0, C: 0.0, B: NOW + 10}, "since when it is missing"
    assert store.allowlist.resolve(NAME, [A, B], None, NOW + 30) == ([], [])
    assert of(store) == {A: 0.0, B: 0.0, C: NOW + 30}
    assert store.allowlist.resolve(NAME, [A, B], None, NOW + 30 + GRACE) == ([], [C])
    assert of(store) == {A: 0.0, B: 0.0}
    assert {row.note for row in store.allowlist.entries(NOW)} == {"a note"}


def test_a_name_is_refreshed_only_while_it_is_there(store: Store) -> None:
    with pytest.raises(RefusedError, match="not allowed"):
        store.allowlist.resolve(NAME, [A], None, NOW)
    store.allowlist.resolve(NAME, [A], (NOW + 60, ""), NOW)
    assert store.allowlist.resolve(NAME, [B], None, NOW + 59) == ([B], [])
    with pytest.raises(RefusedError, match="not allowed"):
        store.allowlist.resolve(NAME, [A], None, NOW + 61)
    assert store.allowlist.entries(NOW + 61) == []
    store.prune(NOW + 61)
    assert store.allowlist.entries(NOW) == []


def test_it_ends_with_the_clock_that_was_set(store: Store) -> None:
    store.allowlist.resolve(NAME, [A], (NOW + 60, ""), NOW)
    list(store.active.shift(Shift(NOW, 1000.0)))
    assert [row.until for row in store.allowlist.entries(NOW)] == [NOW + 1060]


def test_the_longest_missing_goes_where_there_are_too_many(store: Store) -> None:
    first = [f"192.0.2.{number}" for number in range(ADDRESSES)]
    second = [f"198.51.100.{number}" for number in range(ADDRESSES - 1)]
    store.allowlist.resolve(NAME, first, KEPT, NOW)
    store.allowlist.resolve(NAME, first[1:], None, NOW + 1)
    added, removed = store.allowlist.resolve(NAME, second, None, NOW + 2)
    assert (len(added), len(removed)) == (ADDRESSES - 1, ADDRESSES - 1)
    assert "192.0.2.0" in removed
    assert len(of(store)) == ADDRESSES


def test_names_and_entries_are_apart_and_disallowed_together(store: Store) -> None:
    store.allowlist.allow(A, 0.0, "by address", NOW)
    store.allowlist.allow(NAME, 0.0, "by reverse name", NOW)
    store.allowlist.resolve(NAME, [A], KEPT, NOW)
    store.allowlist.resolve("other.example.net", [A], KEPT, NOW)
    assert len(store.allowlist.entries(NOW)) == 4
    assert store.allowlist.disallow(NAME)
    assert [(row.what, row.name) for row in store.allowlist.entries(NOW)] == [
        (A, ""),
        (A, "other.example.net"),
    ]
    assert store.allowlist.disallow(A)
    assert [(row.what, row.name) for row in store.allowlist.entries(NOW)] == [
        (A, "other.example.net")
    ]
    assert not store.allowlist.disallow(NAME)


def test_the_list_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ALLOWED", 2)
    store.allowlist.allow(C, 0.0, "", NOW)
    store.allowlist.resolve(NAME, [A], KEPT, NOW)
    with pytest.raises(RefusedError, match="2 entries"):
        store.allowlist.resolve(NAME, [A, B], None, NOW)
    assert of(store) == {A: 0.0}
    assert store.allowlist.resolve(NAME, [A], None, NOW) == ([], [])
