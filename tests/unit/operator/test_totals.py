"""Totals of days and hours, from a real store."""

import time
from types import SimpleNamespace
from typing import cast

from lab.machine.zone import zone  # noqa: F401 - a fixture
from throttled.clock import Moment
from throttled.control.results import Totals
from throttled.model import Decision
from throttled.operator.desk import Desk
from throttled.operator.totals import HOURS, days, hours
from throttled.store.store import Store

HOUR = 3600.0


def local(year: int, month: int, day: int, hour: int) -> float:
    return time.mktime((year, month, day, hour, 0, 0, 0, 0, -1))


def desk(store: Store, now: float) -> Desk:
    """Return a desk of which only store and clock are asked."""
    return cast("Desk", SimpleNamespace(store=store, clock=lambda: Moment(now, now)))


def banned(store: Store, when: float) -> None:
    what = ("198.51.100.7", "mx", "errors", 1, when + 60, "because")
    store.record(when, [Decision(when, "ban", *what)])  # type: ignore[arg-type]


def test_days_are_those_of_this_hosts_zone() -> None:
    store = Store.open(":memory:")
    now = local(2026, 3, 29, 12)  # the day has 23 hours
    for when in (local(2026, 3, 27, 23), local(2026, 3, 28, 0), local(2026, 3, 28, 23)):
        banned(store, when)
    store.record(now, [], activity={(int(now // HOUR), "mx", "session"): 5})
    store.record(now, [], activity={(int(now // HOUR), "submission", "login"): 2})
    store.hourly.count_drops(0, now)
    store.hourly.count_drops(700, now)
    assert days(desk(store, now)) == [
        Totals(local(2026, 3, 28, 0), bans=2),
        Totals(local(2026, 3, 29, 0), sessions=5, logins=2, drops=700),
    ]
    store.close()


def test_hours_without_anything_are_there_too() -> None:
    store = Store.open(":memory:")
    now = 1_790_000_000.0
    banned(store, now - 50 * HOUR)
    banned(store, now - 47 * HOUR)
    banned(store, now)
    found = hours(desk(store, now))
    assert [row.begin for row in found] == [
        now // HOUR * HOUR - n * HOUR for n in reversed(range(HOURS))
    ]
    assert [n for n, row in enumerate(found) if row.bans] == [0, HOURS - 1]
    store.close()
