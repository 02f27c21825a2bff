"""A peer's ban of a network does not hit good senders."""

from collections.abc import Iterator

import pytest

from throttled.clock import Moment
from throttled.core.exposed import exposed
from throttled.core.recorder import Recorder
from throttled.model import Decision, Evidence
from throttled.skipped import Skipped
from throttled.store.store import Store

WALL = 1_800_000_000.0
NOW = Moment(WALL, 5_000.0)
FOUR, SIX, SHORT = "198.51.100.7", "2001:db8:9:1::7", "2a00:0:5::7"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    store = Store.open(":memory:")
    good = [Evidence(sender, WALL - 86400, 0, 2) for sender in (FOUR, SIX, SHORT)]
    store.record(WALL, (), good)
    yield Recorder(store, Skipped())
    store.close()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("198.51.100.0/24", False),  # exempted one by one
        ("2001:db8:9:1::/64", False),
        ("198.51.100.0/28", True),
        ("198.51.100.16/28", False),
        ("203.0.113.0/24", False),
        ("2001:db8:9::/48", False),  # exempted one by one, as in an imported list's
        ("2001:db8:8::/48", False),
        ("2a00:0:5::/48", False),
        ("2001:db8:9:1::/96", True),
        (FOUR, False),
    ],
)
def test_who_cannot_be_exempted_is_exposed(
    recorder: Recorder, network: str, expected: object
) -> None:
    assert exposed((network, "mx"), recorder, NOW) is expected


def test_a_throttled_good_sender_is_exposed(recorder: Recorder) -> None:
    throttle = Decision(WALL, "throttle", FOUR, "mx", "errors", 0, WALL + 600, "why")
    recorder.store.record(WALL, [throttle])
    assert exposed(("198.51.100.0/24", "mx"), recorder, NOW) is True
    assert exposed(("198.51.100.0/24", "submission"), recorder, NOW) is False
