"""One limit of senders: what it counts, its thresholds, and when a report is due again."""

import pytest
from msgspec.structs import replace

from throttled.decide.gauge import Gauge, SenderMeter
from throttled.decide.limits import NEVER
from throttled.decide.uses import Use
from throttled.duration import duration
from throttled.limits import AnyCount, Limit, Override
from throttled.model import Scope
from throttled.subjects import Of

ALICE, BOB = "account:alice", "account:bob"


def gauge(of: Of = "account", count: AnyCount = "messages", **more: object) -> Gauge:
    limit = Limit(of=of, count=count, within=duration("1h"), soft=3)
    return Gauge("x", replace(limit, **more))


def test_what_is_within_the_window_counts() -> None:
    made = gauge()
    assert [made.add(Use(ALICE, "messages", 2), at) for at in (1.0, 2.0)] == [2, 4]
    assert (made.value(ALICE, 2.0), made.value(BOB, 2.0)) == (4, 0)
    assert made.value(ALICE, 9000.0) == 0


def test_bytes_are_counted_in_kib_rounded_up() -> None:
    made = gauge(count="bytes")
    assert made.add(Use(ALICE, "bytes", 1), 1.0) == made.value(ALICE, 1.0) == 1024


def test_networks_are_counted_once_each() -> None:
    made = gauge(count="networks")
    names = ("192.0.2.0/24", "192.0.2.0/24", "198.51.100.0/24")
    assert [made.add(Use(ALICE, "networks", 1, name), 1.0) for name in names] == [1, 1, 2]
    assert made.value(ALICE, 1.0) == 2
    for table in made.tables():
        table.clear()
    assert made.value(ALICE, 1.0) == 0


def test_thresholds_of_its_own() -> None:
    made = gauge(for_={ALICE: Override(hard=9), BOB: Override(enabled=False)})
    made.own = made.limit.for_.get
    assert made.thresholds(ALICE) == (3, 9)
    assert made.thresholds(BOB) == (NEVER, NEVER)
    assert made.thresholds("account:carol") == (3, NEVER)
    assert gauge("inside").thresholds("192.0.2.7") == (3, NEVER)


@pytest.mark.parametrize(
    ("of", "count", "scope"),
    [
        ("account", "messages", "submission"),
        ("inside", "messages", "mx"),
        ("mailbox", "messages", "mx"),
        ("domain", "messages", "submission"),
        ("domain", "received", "mx"),
    ],
)
def test_the_scope_of_decisions(of: Of, count: AnyCount, scope: Scope) -> None:
    assert gauge(of, count).scope == scope


def test_a_share_is_in_thousandths() -> None:
    assert (gauge(count="bounces", share="2.9%").share, gauge().share) == (29, 0)


def test_a_report_is_due_again_at_twice_the_value_or_after_the_window() -> None:
    made = gauge()
    found = [made.again(ALICE, value, at) for value, at in ((4, 1.0), (7, 2.0), (8, 3.0))]
    assert found == [True, False, True]
    assert made.again(ALICE, 9, 3603.0)


@pytest.mark.parametrize(("threshold", "hard", "share"), [(4, 0, 0.5), (4, 8, 0.25), (0, 0, None)])
def test_how_much_of_a_threshold_is_reached(threshold: int, hard: int, share: float | None) -> None:
    meter = SenderMeter("x", "messages", 1.0, 2, threshold, hard, False, "mx", True)
    assert meter.share() == (2 / NEVER if share is None else share)
