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


@given(st.lists(st.floats(0, 100)))
def test_everything_is_counted_once_and_below_its_bound(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    for bound, count in histogram.cumulative():
        assert count == sum(seconds <= bound for seconds in durations)
    assert len(histogram.counts) == len(BOUNDS) + 1
