"""`report`: every number beside one that SQLite counts, with a query written here."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from throttled.analysis.report import (
    DAY,
    WEEK,
    Count,
    Overview,
    headline,
    overview,
    span,
    without_names,
)
from throttled.model import Activity, Decision, Evidence, Report, SenderDay
from throttled.store.hourly import HOUR
from throttled.store.store import Store

NOW = 1_700_000_000.0
UNTIL = NOW // HOUR * HOUR
LIMITS = ("errors", "auth", "connections")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three weeks, hour by hour, in which no two hours are alike."""
    path = tmp_path_factory.mktemp("report") / "throttled.db"
    with closing(Store.open(str(path))) as store:
        for back in range(24 * 21, -1, -1):
            at = UNTIL - back * HOUR + 5
            hour = int(at // HOUR)
            activity: dict[Activity, int] = {
                (hour, "mx", "session"): 300 - back % 97,
                (hour, "submission", "session"): back % 13,
                (hour, "mx", "delivery"): back % 7,
                (hour, "submission", "login"): back % 5,
            }
            decisions = [
                Decision(
                    at + n,
                    "ban" if (back + n) % 3 == 0 else "throttle",
                    f"198.51.{back % 9}.{n}",
                    "mx",
                    LIMITS[(back + n) % 3 - 1],
                    1,
                    at + 600,
                    "because",
                )
                for n in range(back % 6)
            ]
            good = [Evidence(f"198.51.{back % 9}.1", at - DAY, 2, 0)] if back % 50 == 0 else []
            store.record(at, decisions, good, (), activity)
            store.hourly.count_drops(1000 - back + back % 11, at)
        store.senders.report(
            [Report(UNTIL - 60, "account:a", "x", "bounces", 11, 10, HOUR, "account:A")]
        )
        store.senders.add([SenderDay("account:a", int((UNTIL - 60) // DAY), 3, 30)])
    return path


@pytest.fixture
def count(database: Path) -> Iterator[Any]:
    with closing(sqlite3.connect(database)) as connection:

        def value(query: str, *values: float) -> Any:
            return connection.execute(query, values).fetchone()[0]

        yield value


@pytest.fixture(params=[DAY, WEEK])
def found(database: Path, request: pytest.FixtureRequest) -> Overview:
    with closing(Store.open(str(database), readonly=True)) as store:
        return overview(store, *span(NOW, request.param), host="mx.example")


def test_totals_and_their_changes(found: Overview, count: Any) -> None:
    query = (
        "SELECT sum(count) FROM hourly WHERE hour * 3600 >= ? AND hour * 3600 < ? AND what = '{}'"
    )
    decision = query.format("decision") + " AND kind = '{}'"
    queries = {
        "sessions": query.format("session"),
        "sessions_mx": query.format("session") + " AND scope = 'mx'",
        "sessions_submission": query.format("session") + " AND scope = 'submission'",
        "deliveries": query.format("delivery"),
        "logins": query.format("login"),
        "drops": query.format("drop"),
        "throttles": decision.format("throttle"),
        "bans": decision.format("ban"),
        "unbans": decision.format("release"),
        "overload": query.format("overload"),
    }
    assert found.totals.keys() == queries.keys()
    for name, text in queries.items():
        now = count(text, found.since, found.until) or 0
        before = count(text, found.since - WEEK, found.until - WEEK) or 0
        assert found.totals[name] == Count(now, before), name
        assert sum(found.series[name]) == now, name
    assert not found.has_overload
    assert found.until == UNTIL
    assert found.current["sessions"] == count(
        "SELECT sum(count) FROM hourly WHERE hour = ? AND what = 'session'", UNTIL // HOUR
    )


def test_columns_are_hours(found: Overview, count: Any) -> None:
    assert found.slot == HOUR
    for i, value in enumerate(found.series["sessions"]):
        hour = found.since // HOUR + i
        query = "SELECT sum(count) FROM hourly WHERE hour = ? AND what = 'session'"
        assert value == count(query, hour)


def test_limits_subjects_and_good_senders(found: Overview, count: Any) -> None:
    where = f"time >= {found.since} AND time < {found.until}"
    earlier = f"time >= {found.since - WEEK} AND time < {found.until - WEEK}"
    by = "SELECT count(*) FROM decision WHERE {} AND action IN ({}) AND \"limit\" = '{}'"
    assert {row.limit for row in found.limits} == set(LIMITS)
    for row in found.limits:
        assert row.bans == count(by.format(where, "'ban'", row.limit))
        assert row.throttles == count(by.format(where, "'throttle'", row.limit))
        assert row.before == count(by.format(earlier, "'ban', 'throttle'", row.limit))
    distinct = "SELECT count(DISTINCT subject) FROM decision WHERE {} AND action = '{}'"
    assert found.banned == count(distinct.format(where, "ban"))
    assert found.throttled == count(distinct.format(where, "throttle"))
    for network in found.networks:
        begin = network.network.removesuffix("0/24")
        inside = f"SELECT count({{}}) FROM decision WHERE {where} AND subject LIKE '{begin}%'"
        assert network.clients == count(inside.format("DISTINCT subject"))
        assert network.bans == count(inside.format("*") + " AND action = 'ban'")
        assert network.throttles == count(inside.format("*") + " AND action = 'throttle'")
    for client in found.clients:
        of = f"SELECT count(*) FROM decision WHERE {where} AND subject = '{client.subject}'"
        assert client.bans == count(of + " AND action = 'ban'")
        assert client.throttles == count(of + " AND action = 'throttle'")
    hit = (
        f"SELECT count(DISTINCT subject) FROM decision JOIN good ON subject = address WHERE {where}"
    )
    assert found.good_total == count(hit)
    assert found.good_banned == count(hit + " AND action = 'ban'")
    assert len(found.good) == found.good_total > 0


def test_the_sentence_that_comes_first(found: Overview) -> None:
    first = f"{found.banned} clients banned, {found.throttled} throttled."
    assert headline(found).startswith(first)
    assert "of them had delivered mail or logged in" in headline(found)


@pytest.mark.parametrize(
    ("would", "sentence"),
    [
        (False, "No client was banned or throttled, but other senders."),
        (True, "No client would have been banned or throttled, but other senders."),
    ],
)
def test_senders_alone_are_not_nobody(tmp_path: Path, *, would: bool, sentence: str) -> None:
    with closing(Store.open(str(tmp_path / "throttled.db"))) as store:
        slow = Decision(UNTIL - 9, "throttle", "account:a", "submission", "x", 0, UNTIL + 9, "x")
        store.record(UNTIL - 9, [slow])
        found = overview(store, UNTIL - DAY, UNTIL, host="mx", would=would)
    assert headline(found) == sentence


def test_a_store_that_begins_within_the_period_is_compared_with_nothing(tmp_path: Path) -> None:
    with closing(Store.open(str(tmp_path / "t.db"))) as store:
        empty = overview(store, *span(NOW, WEEK), host="mx", would=True)
        assert headline(empty) == "No client would have been banned or throttled."
        hour = int(UNTIL // HOUR) - 24 * 10
        store.record(NOW, (), (), (), {(hour, "mx", "session"): 5})
        store.record(NOW, [Decision(UNTIL - 5, "ban", "192.0.2.1", "mx", "errors", 1, NOW, "x")])
        found = overview(store, *span(NOW, WEEK), host="mx", would=True)
    assert found.totals["bans"] == Count(1, None)
    assert found.limits[0].before is None
    assert headline(found) == (
        "1 client would have been banned, 0 throttled. "
        "None of them had delivered mail or logged in."
    )


@pytest.mark.parametrize(
    ("hours", "slot"), [(1, 1), (200, 1), (201, 2), (24 * 90, 12), (24 * 365, 48)]
)
def test_long_periods_have_wider_columns(tmp_path: Path, hours: int, slot: int) -> None:
    with closing(Store.open(str(tmp_path / "t.db"))) as store:
        first = int(UNTIL // HOUR) - hours
        store.record(
            NOW, (), (), (), {(first, "mx", "session"): 1, (first + 1, "mx", "session"): 2}
        )
        found = overview(store, UNTIL - hours * HOUR, UNTIL, host="mx")
    assert found.slot == slot * HOUR
    assert len(found.series["sessions"]) == -(-hours // slot) <= 200
    assert sum(found.series["sessions"]) == found.totals["sessions"].now == min(hours, 2) * 3 // 2


def test_without_names(database: Path) -> None:
    with closing(Store.open(str(database), readonly=True)) as store:
        named = overview(store, *span(NOW, DAY), host="mx")
    assert (named.reported[0].shown, named.senders[0].subject) == ("account:A", "account:a")
    found = without_names(named)
    assert (found.reported[0].shown, found.senders[0].subject) == ("account 1", "account 1")
    assert found.clients == named.clients
