from hypothesis import given
from hypothesis import strategies as st

from throttled.histogram import BOUNDS, Histogram


def test_a_bound_is_the_highest_that_still_counts() -> None:
    histogram = Histogram()
    histogram.add(0.001)
    histogram.add(0.0011, times=2)
    histogram.add(11.0)
    assert histogram.counts == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert histogram.cumulative()[1:3] == [(0.001, 1), (0.002, 3)]
    assert histogram.cumulative()[-1] == (float("inf"), 4)
    assert abs(histogram.total - 11.0032) < 1e-9


def test_quantiles_are_upper_bounds() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0.0
    histogram.add(0.0004, times=99)
    histogram.add(0.2)
    assert histogram.quantile(0.5) == histogram.quantile(0.99) == 0.0005
    assert histogram.quantile(1.0) == 0.25


@given(st.lists(st.floats(0, 100)))
def test_everything_is_counted_once_and_below_its_bound(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    for bound, count in histogram.cumulative():
        assert count == sum(seconds <= bound for seconds in durations)
    assert len(histogram.counts) == len(BOUNDS) + 1
