from hypothesis import given
from hypothesis import strategies as st

from throttled.decide import meter


def add(value: int, tick: int, count: int) -> int:
    added, total = meter.add(value, tick, count)
    assert total == meter.total(added)
    return added


def test_counts_within_the_window() -> None:
    value = add(add(0, 100, 3), 104, 2)
    assert meter.total(value) == 5


def test_forgets_what_is_older_than_nine_eighths() -> None:
    value = add(add(0, 100, 3), 109, 2)
    assert meter.total(value) == 2


def test_forgets_everything_after_a_long_silence() -> None:
    assert meter.total(meter.advance(add(0, 100, 3), 10_000)) == 0


def test_advance_never_goes_back() -> None:
    value = add(0, 100, 3)
    assert meter.advance(value, 90) == value


def test_late_line_is_put_where_it_belongs() -> None:
    value = add(add(0, 108, 1), 103, 4)
    assert meter.total(value) == 5
    assert meter.total(meter.advance(value, 112)) == 1


def test_line_older_than_the_window_is_not_counted() -> None:
    value = add(0, 109, 1)
    assert add(value, 100, 5) == value


def test_saturates() -> None:
    value = 0
    for number in range(1, 21):
        value = add(value, 7, 1_000_000)
        assert meter.total(value) == min(number * 1_000_000, meter.FULL)


@given(
    st.lists(st.tuples(st.integers(1000, 1040), st.integers(1, 100_000)), max_size=60),
)
def test_equals_a_list_of_all_events(events: list[tuple[int, int]]) -> None:
    """Whatever comes in whatever order: the sum of what lies in the nine newest eighths."""
    value = 0
    newest = 0
    kept: list[tuple[int, int]] = []
    for tick, count in events:
        value = add(value, tick, count)
        newest = max(newest, tick)
        if newest - tick < 9:
            kept.append((tick, count))
        kept = [(t, c) for t, c in kept if newest - t < 9]
        assert meter.total(value) == sum(c for _, c in kept)
        assert value == packed(newest, kept)
        assert meter.advance(value, newest + 1) == packed(newest + 1, kept)


def packed(newest: int, kept: list[tuple[int, int]]) -> int:
    """Return the meter as its module describes it."""
    lanes = sum(count << 24 * (newest - tick) for tick, count in kept if newest - tick < 9)
    return newest << 216 | lanes


def test_a_window_has_eight_eighths() -> None:
    assert meter.EIGHTHS == 8


def test_what_is_subtracted_was_there() -> None:
    value = add(add(0, 100, 3), 104, 4)
    assert meter.total(meter.subtract(value, 100, 2)) == 5
    assert meter.total(meter.subtract(value, 100, 9)) == 4
    assert meter.subtract(value, 104, 3) == packed(104, [(100, 3), (104, 1)])
    assert meter.subtract(value, 101, 1) == value
    assert meter.subtract(value, 105, 1) == value  # the future
    assert meter.subtract(value, 95, 1) == value  # out of the window


def test_eighths_in_which_something_was_counted() -> None:
    value = add(add(add(0, 100, 3), 100, 4), 103, 1)
    assert meter.eighths(0) == 0
    assert meter.eighths(value) == 2
    assert meter.eighths(meter.advance(value, 109)) == 1
