"""What senders did in a day, and their reports."""

import pytest
from msgspec.structs import replace

from throttled.model import Report, SenderDay, SenderRow
from throttled.store import senders
from throttled.store.store import Store

DAY = 86400.0
NOW = 20_000 * DAY
REPORT = Report(NOW, "account:a", "account-bounces", "bounces", 11, 10, 3600.0, "account:A")


@pytest.fixture
def store() -> Store:
    return Store.open(":memory:")


def test_reports_are_read_the_latest_first(store: Store) -> None:
    other = replace(REPORT, time=NOW + 1, subject="uid:33", shown="uid:33")
    store.senders.report([REPORT, other])
    assert store.senders.reports() == [other, REPORT]
    assert store.senders.reports(since=NOW + 1) == [other]
    assert store.senders.reports(subject="account:a") == [REPORT]
    assert store.senders.reports(count=1) == [other]


def test_old_reports_and_those_above_the_cap_are_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "REPORTS", 3)
    for n in range(5):
        store.senders.report([replace(REPORT, time=NOW + n)])
    assert [r.time - NOW for r in store.senders.reports()] == [4, 3, 2]
    store.senders.report([replace(REPORT, time=NOW + 36 * DAY)])
    assert len(store.senders.reports()) == 1


def test_days_add_up(store: Store) -> None:
    store.senders.add([SenderDay("account:a", 3, 1, 2, 3, 4, 5)])
    store.senders.add([SenderDay("account:a", 3, 1, 1, 1, 1, 1), SenderDay("account:a", 4, 9)])
    assert store.senders.days("account:a") == [
        SenderDay("account:a", 3, 2, 3, 4, 5, 6),
        SenderDay("account:a", 4, 9),
    ]
    assert store.senders.days("account:b") == []


def test_the_highest_day_before_today(store: Store) -> None:
    assert store.senders.highest(9) == {}
    days = [(7, 5), (8, 3), (9, 99)]
    store.senders.add([SenderDay("account:a", day, recipients=n) for day, n in days])
    assert store.senders.highest(9) == {"account:a": 5}


def test_a_day_has_a_cap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "SENDERS", 2)
    rows = [SenderDay(f"account:{n}", 3, 1) for n in range(4)]
    store.senders.add(rows)
    store.senders.add(rows)
    assert [len(store.senders.days(row.subject)) for row in rows] == [1, 1, 0, 0]
    assert store.senders.days("account:1") == [SenderDay("account:1", 3, 2)]


def test_days_are_stored_for_35_days(store: Store) -> None:
    store.senders.add([SenderDay("account:a", 20_000 - 36), SenderDay("account:a", 20_000 - 34)])
    store.prune(NOW)
    assert [day.day for day in store.senders.days("account:a")] == [20_000 - 34]


def test_what_senders_did_in_a_day(store: Store) -> None:
    store.senders.add(
        [
            SenderDay("account:alice@example.test", 7, 1, 10, 3, 1, 1),
            SenderDay("account:alice@example.test", 8, 1, 31, 3, 1, 1),
            SenderDay("account:alice@example.test", 9, 2, 5, 6, 3, 4),
            SenderDay("198.51.100.7", 9, 1, 1, 1),
            SenderDay("uid:33", 10, 1),
        ]
    )
    alice = SenderRow("account:alice@example.test", 2, 5, 6, 3, 4, 20, 31)
    host = SenderRow("198.51.100.7", 1, 1, 1, 0, 0, 0, 0)
    assert store.senders.of_day(9) == [host, alice]
    assert store.senders.of_day(9, "example") == [alice]
    assert store.senders.of_day(9, kind="inside") == [host]
    assert store.senders.of_day(9, "bob") == []


def test_the_days_and_what_each_has(store: Store) -> None:
    assert store.senders.stored_days() == []
    days = [
        SenderDay("uid:33", 19_999, 1, 2, 3, 4, 5, 6),
        SenderDay("uid:33", 20_000),
        SenderDay("account:a", 19_999),
    ]
    store.senders.add(days)
    assert store.senders.stored_days() == [19_999, 20_000]
    found = store.senders.in_day(19_999)
    assert sorted(found, key=lambda one: one.subject) == [days[2], days[0]]
