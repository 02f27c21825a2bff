"""Places in time at a rate, and who waits for theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.enforce.allowance import Allowance, Waiting, whole
from throttled.model import Rate


def send(rate: Rate, gaps: list[float]) -> list[float]:
    """Return when messages go that one client sends: each after the one before and a gap."""
    allowance, now, gone = Allowance(rate), 1000.0, []
    for gap in gaps:
        now += gap
        seconds = whole(allowance.wait(now))
        allowance.use(now)
        now += seconds
        gone.append(now - 1000.0)
    return gone


def test_so_many_at_once_then_by_the_rate() -> None:
    gone = send(Rate(1, 2.0, 3), [0.0] * 6)
    assert gone == [0.0, 0.0, 0.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    "rate",
    [Rate(2, 1.0, 10), Rate(4, 1.0, 4), Rate(7, 10.0, 1), Rate(30, 60.0, 5), Rate(9, 1.0, 1)],
)
def test_whole_seconds_of_sleep_keep_the_rate(rate: Rate) -> None:
    gone = send(rate, [0.0] * 300)
    expected = (300 - rate.burst) * rate.per / rate.count
    assert gone[-1] == pytest.approx(expected, rel=0.1)


@given(
    st.integers(1, 20),
    st.integers(1, 60),
    st.integers(1, 20),
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200),
)
def test_never_more_than_the_rate_allows(
    count: int, per: int, burst: int, gaps: list[float]
) -> None:
    """Within any span: the burst, the rate, and what a second of grace and rounding add."""
    rate = Rate(count, float(per), burst)
    gone = send(rate, gaps)
    for first, begin in enumerate(gone):
        for last in range(first, len(gone)):
            most = burst + (gone[last] - begin + 2.5) * count / per + 1
            assert last - first + 1 <= most


def test_a_pause_gives_no_more_than_the_burst() -> None:
    gone = send(Rate(1, 10.0, 2), [0.0, 0.0, 1000.0, 0.0, 0.0])
    assert gone == [0.0, 0.0, 1000.0, 1000.0, 1010.0]


def test_who_waits() -> None:
    waiting = Waiting()
    assert waiting.count("a", 0.0) == 0
    waiting.add("a", 2.0)
    waiting.add("a", 3.0)
    waiting.add("b", 9.0)
    assert [waiting.count("a", at) for at in (1.0, 2.0, 3.0)] == [2, 1, 0]
    assert waiting.count("b", 3.0) == 1


def test_the_nearest_whole_second() -> None:
    assert [whole(wait) for wait in (-3.0, 0.0, 0.49, 0.5, 1.4, 1.6)] == [0, 0, 0, 1, 1, 2]
