import pytest

from throttled.model import Evidence, Peak, Scope
from throttled.store import peaks
from throttled.store.store import Store

NOW = 1_700_000_000.0
DAY = 86400.0
OF = ("mx", "errors", "errors", 600.0)
A = "198.51.100.1"


def peak(value: int, client: str = A, within: float = 600.0, scope: Scope = "mx") -> Peak:
    return Peak(client, scope, "errors", "errors", within, value)


def test_maxima_however_often_they_are_written(store: Store) -> None:
    for value in (3, 7, 5, 7):
        store.peaks.write([peak(value)], [], NOW)
    store.peaks.write([peak(2, within=60.0), peak(4, scope="submission")], [], NOW + 60)
    kept = store.peaks.read(NOW + 60)
    assert kept.highest == {
        OF: {A: 7},
        ("mx", "errors", "errors", 60.0): {A: 2},
        ("submission", "errors", "errors", 600.0): {A: 4},
    }
    assert (kept.good, kept.full) == ({}, False)


def test_what_was_not_reached_again_is_forgotten(store: Store) -> None:
    store.peaks.write([peak(7), peak(9, "198.51.100.2")], [], NOW)
    store.peaks.write([peak(7), peak(8, "198.51.100.2")], [], NOW + 2 * DAY)
    assert store.peaks.read(NOW + 31 * DAY).highest == {OF: {A: 7}}
    store.prune(NOW + 31 * DAY)
    assert store.peaks.read(NOW).highest == {OF: {A: 7}}
    store.prune(NOW + 33 * DAY)
    store.peaks.write([peak(1)], [], NOW + 33 * DAY)
    assert store.peaks.read(NOW + 33 * DAY).highest == {OF: {A: 1}}


def test_since_when_a_limit_is_watched_though_nobody_did_it(store: Store) -> None:
    for at in (NOW, NOW + 60, NOW + DAY):
        store.peaks.write([], [OF], at)
    assert store.peaks.read(NOW + DAY).times == {OF: (NOW, NOW + DAY)}
    store.prune(NOW + 31 * DAY)
    assert store.peaks.read(NOW + 31 * DAY).times == {OF: (NOW, NOW + DAY)}
    store.prune(NOW + 31 * DAY + 1)
    assert store.peaks.read(NOW).times == {}


def test_who_is_good(store: Store) -> None:
    store.peaks.write([peak(1), peak(1, "198.51.100.2")], [], NOW)
    store.record(NOW, [], [Evidence(A, NOW, 3, 1), Evidence("198.51.100.9", NOW, 1)])
    assert store.peaks.read(NOW).good == {A: (3, 1)}
    assert store.peaks.read(NOW + 29 * DAY).good == {A: (1, 1)}
    assert store.peaks.read(NOW + 30 * DAY).good == {}


def test_strangers_do_not_displace_good_clients(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "ROWS", 3)
    good = [f"198.51.100.{n}" for n in range(9)]
    strangers = [f"203.0.113.{n}" for n in range(9)]
    store.record(NOW, [], [Evidence(client, NOW, 1) for client in good])
    store.peaks.write([peak(1, client) for client in strangers], [], NOW)
    assert store.peaks.read(NOW).full
    store.peaks.write([peak(1, client) for client in good], [], NOW)
    store.peaks.write([peak(2, client) for client in good + strangers], [], NOW)
    kept = store.peaks.read(NOW).highest[OF]
    assert set(kept) == {*strangers[:3], *good[:3]}
    assert set(kept.values()) == {2}
    store.unbans.clear(NOW)  # the number of rows stays
    store.peaks.write([peak(1, strangers[8])], [], NOW)
    assert strangers[8] not in store.peaks.read(NOW).highest[OF]
