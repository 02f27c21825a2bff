"""What happened in each hour: counted in the transaction that records it, nothing twice."""

import sqlite3
from collections.abc import Mapping

import pytest

from throttled.model import Activity, Decision, Evidence
from throttled.store import hourly, prune
from throttled.store.hourly import DAYS, HOUR, Hourly
from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0  # 13 minutes into its hour
THIS = NOW // HOUR * HOUR
HERE = int(NOW // HOUR)
A = "198.51.100.7"


def ban(at: float = NOW, subject: str = A, limit: str = "errors") -> Decision:
    return Decision(at, "ban", subject, "mx", limit, 1, at + 600, "because")


def rows(store: Store, since: float = 0.0) -> list[tuple[float, str, str, str, str, int]]:
    found = store.hourly.read(since, NOW + HOUR)
    return [(r.begin - THIS, r.scope, r.what, r.kind, r.limit, r.count) for r in found]


def test_decisions_are_counted_in_the_hour_they_were_taken_in(store: Store) -> None:
    throttle = Decision(NOW, "throttle", A, "submission", "auth", 0, NOW + 60, "because")
    store.record(NOW, [ban(), ban(NOW - HOUR), ban(NOW - HOUR + 60), throttle])
    store.record(NOW, [ban(subject="198.51.100.8")])
    assert rows(store) == [
        (-HOUR, "mx", "decision", "ban", "errors", 2),
        (0, "mx", "decision", "ban", "errors", 2),
        (0, "submission", "decision", "throttle", "auth", 1),
    ]


def test_totals_are_of_all_scopes_and_limits(store: Store) -> None:
    store.record(NOW, [ban(), ban(limit="auth"), ban(NOW - HOUR), ban(NOW - 2 * HOUR)])
    store.record(NOW, [], activity={(HERE, "mx", "session"): 5, (HERE, "submission", "session"): 2})
    assert store.hourly.totals(NOW - HOUR) == [
        (THIS - HOUR, "decision", "ban", 1),
        (THIS, "decision", "ban", 2),
        (THIS, "session", "", 7),
    ]
    with store._database.transaction() as connection:
        connection.execute("UPDATE hourly SET count = 'x' WHERE what = 'session'")
    assert [count for *_, count in store.hourly.totals(NOW)] == [2]  # what another program altered


def test_an_unban_is_a_decision(store: Store) -> None:
    store.record(NOW, [ban()])
    store.unbans.unban(A, None, NOW)
    assert rows(store)[-1] == (0, "mx", "decision", "release", "operator", 1)


def test_sessions_deliveries_and_logins(store: Store) -> None:
    first: Mapping[Activity, int] = {(HERE, "mx", "session"): 7, (HERE, "mx", "delivery"): 2}
    store.record(NOW, (), activity=first)
    store.record(NOW, (), activity={(HERE, "mx", "session"): 1, (HERE, "submission", "login"): 3})
    assert store.hourly.read(NOW, NOW + 1) == [
        Hourly(THIS, "mx", "delivery", "", "", 2),
        Hourly(THIS, "mx", "session", "", "", 8),
        Hourly(THIS, "submission", "login", "", "", 3),
    ]
    assert (
        store.hourly.read(NOW - HOUR, THIS)
        == store.hourly.read(THIS + HOUR, NOW + DAYS * 86400)
        == []
    )


def test_all_of_a_transaction_is_counted_or_nothing(store: Store) -> None:
    bad = StoredPosition("log", object())  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        store.record(NOW, [ban()], [Evidence(A, NOW, 1)], [bad], {(HERE, "mx", "session"): 1})
    assert rows(store) == []
    assert store.decisions(A) == []


def test_drops_are_what_the_kernels_counter_grew_by(store: Store, path: str) -> None:
    store.hourly.count_drops(1000, NOW)  # of before the first start: when is not known
    assert rows(store) == []
    store.hourly.count_drops(1003, NOW)
    store.hourly.count_drops(1003, NOW + 60)
    again = Store.open(path)
    again.hourly.count_drops(1010, NOW + HOUR)
    again.hourly.count_drops(5, NOW + HOUR)  # the table was made anew
    found = again.hourly.read(NOW, NOW + 2 * HOUR)
    assert [(r.begin - THIS, r.what, r.count) for r in found] == [
        (0, "drop", 3),
        (HOUR, "drop", 12),
    ]
    again.close()


def test_a_first_start_with_an_empty_table_counts_from_zero(store: Store) -> None:
    store.hourly.count_drops(0, NOW)
    store.hourly.count_drops(4, NOW)
    assert rows(store) == [(0, "", "drop", "", "", 4)]


def test_a_time_that_cannot_be_is_now_or_nothing(store: Store) -> None:
    store.record(NOW, [ban(NOW + 9 * HOUR), ban(0.0)])
    assert rows(store) == [(0, "mx", "decision", "ban", "errors", 1)]


def test_an_hour_has_a_cap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "ROWS", 10)
    for first in range(0, 100, 5):
        store.record(NOW, [ban(limit=f"limit{n}") for n in range(first, first + 5)])
    found = rows(store)
    assert {row[4]: row[5] for row in found if row[5] > 1} == {"": 90}
    assert len(found) == 11


def test_what_is_old_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    for hours in (1, 0):
        store.record(NOW - hours * HOUR, [ban(NOW - hours * HOUR)])
        sessions: dict[Activity, int] = {(HERE - hours, "mx", "session"): 1}
        store.record(NOW, (), activity=sessions)
    after = NOW + DAYS * 86400
    assert len(rows(store)) == 4
    more = store.prune(after)
    assert more
    assert [row[0] for row in rows(store)] == [0, 0]
    store.prune(after + HOUR)
    assert rows(store) == []


def test_a_row_that_another_program_altered_is_skipped(store: Store) -> None:
    store.record(NOW, [ban()])
    store._database.connection.execute("INSERT INTO hourly VALUES (?, 'x', '', '', '', 1)", (HERE,))
    assert len(rows(store)) == 1
    assert store.skipped.counts["row"] == 1
