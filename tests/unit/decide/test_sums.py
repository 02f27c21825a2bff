from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.sums import Sums

T = 80.0  # an eighth of it is ten seconds


def test_add_returns_the_sum_only_where_it_may_be_above_the_threshold() -> None:
    sums = Sums(T, 100, 90)  # a ninth of it: ten
    assert [sums.add("a", 1000.0, 1) for _ in range(12)] == [0] * 10 + [11, 12]
    assert sums.value("a", 1000.0) == 12
    # Having been above it once, it is summed whatever is added, while that counts.
    assert sums.add("a", 1085.0, 1) == 13
    assert sums.add("a", 1095.0, 1) == 0
    assert sums.value("a", 1095.0) == 2


def test_it_is_summed_for_as_long_as_that_eighth_counts_no_longer() -> None:
    sums = Sums(T, 100, 90)
    sums.add("a", 1000.0, 11)
    assert sums.add("a", 1080.0, 10) == 21  # no more than a ninth itself
    assert sums.add("a", 1095.0, 1) == 0


def test_nothing_is_missed_where_a_threshold_is_reached_slowly() -> None:
    sums = Sums(T, 100, 90)
    found = [sums.add("a", 1000.0 + 10 * (n // 11), 1) for n in range(99)]
    assert found[-1] == 99


def test_a_line_that_comes_late_counts_where_it_belongs() -> None:
    sums = Sums(T, 100, 9)
    sums.add("a", 1000.0, 1)
    assert sums.add("a", 950.0, 1) == 2
    assert sums.value("a", 1020.0) == 2
    assert sums.value("a", 1040.0) == 1
    assert sums.add("a", 919.9, 1) == 0  # out of the window
    assert sums.value("a", 1000.0) == 2


def test_what_came_late_is_summed_for_as_long_as_it_counts() -> None:
    sums = Sums(T, 100, 90)
    assert sums.add("a", 1000.0, 11) == 11
    sums.add("a", 1080.0, 1)
    sums.add("a", 1070.0, 89)
    assert sums.add("a", 1090.0, 1) == 91


def test_what_is_subtracted_is_never_below_zero() -> None:
    sums = Sums(T, 100, 900)
    sums.add("a", 1000.0, 5)
    sums.add("a", 1020.0, 1)
    sums.subtract("a", 1000.0, 2)
    assert sums.value("a", 1020.0) == 4
    sums.subtract("a", 1020.0, 9)
    assert sums.value("a", 1020.0) == 3
    for subject, at in (("a", 1010.0), ("nobody", 1000.0), ("a", 939.9), ("a", 1900.0)):
        sums.subtract(subject, at, 9)
    assert sums.value("a", 1020.0) == 3


def test_a_long_silence_leaves_nothing() -> None:
    sums = Sums(T, 100, 9)
    sums.add("a", 1000.0, 50)
    assert sums.value("a", 1089.9) == 50
    assert sums.value("a", 1090.0) == 0
    sums.add("b", 99_000.0, 1)
    assert sums.value("a", 99_000.0) == 0


def test_pop_and_clear() -> None:
    sums = Sums(T, 100, 9)
    for key in "abc":
        sums.add(key, 1000.0, 5)
        sums.add(key, 1020.0, 5)
    sums.pop("a")
    assert [sums.value(key, 1020.0) for key in "abc"] == [0, 10, 10]
    sums.clear()
    assert [sums.value(key, 1020.0) for key in "abc"] == [0, 0, 0]
    assert sums.add("b", 1020.0, 1) == 0


def test_another_threshold_is_watched_from_now_on() -> None:
    sums = Sums(T, 100, 900)
    assert sums.add("a", 1000.0, 50) == 0
    sums.add("c", 1000.0, 5)
    sums.watch(45)
    assert sums.add("a", 1010.0, 1) == 51
    assert sums.add("b", 1010.0, 1) == sums.add("c", 1010.0, 1) == 0
    sums.watch(9000)
    assert sums.add("d", 1010.0, 900) == 0


def test_at_the_cap_keys_counted_once_are_dropped_first() -> None:
    sums = Sums(T, 10, 90)
    sums.add("busy", 1000.0, 2)
    for number in range(10):
        sums.add(str(number), 1000.0, 1)
    assert sums.value("busy", 1000.0) == 2
    assert (sums.dropped, sums.value("0", 1000.0)) == (10, 0)


def test_at_the_cap_all_are_dropped_where_that_is_not_enough() -> None:
    sums = Sums(T, 10, 90)
    for number in range(11):
        sums.add(str(number), 1000.0, 2)
    assert sums.dropped == 11
    assert sum(sums.value(str(number), 1000.0) for number in range(11)) == 0


def test_at_the_cap_half_may_stay() -> None:
    for often, stay in ((5, 5), (6, 0)):
        sums = Sums(T, 10, 90)
        for number in range(11):
            sums.add(str(number), 1000.0, 2 if number < often else 1)
        assert sums.dropped == 11 - stay
        assert [sums.value(str(number), 1000.0) for number in range(5)] == [min(2, stay)] * 5


def test_at_the_cap_what_was_above_it_before_is_still_summed() -> None:
    sums = Sums(T, 10, 90)
    sums.add("a", 990.0, 11)
    for number in range(11):
        sums.add(str(number), 1000.0, 1)
    assert sums.dropped == 11
    assert sums.add("a", 1000.0, 1) == 12


@pytest.mark.parametrize("behind", [0.0, 20.0])
def test_the_cap_does_not_depend_on_the_threshold_or_on_the_time_of_a_line(behind: float) -> None:
    """With a threshold below nine all keys are summed, and those of late lines too."""
    sums = Sums(T, 10, 8)
    sums.add("before", 990.0, 1)
    sums.add("busy", 1000.0, 2)
    for number in range(1000):
        sums.add(str(number), 1000.0 - behind, 1)
    assert sum(map(len, sums._lanes)) <= 12
    assert len(sums._warm) <= 12
    assert sums.dropped >= 980
    assert [sums.add(key, 1000.0, 1) for key in ("before", "busy")] == [2, 3]


HISTORY = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, 9.9, 10.0, 30.0, 79.0, 81.0, 95.0, 200.0]),
        st.sampled_from([0.0, 0.0, 0.0, 2.0, 11.0, 85.0]),
        st.sampled_from("aaab") | st.integers(0, 9).map(str),
        st.integers(1, 4),
    ),
    max_size=120,
)


@given(HISTORY, st.integers(1, 40))
def test_against_a_slow_and_exact_model(
    history: list[tuple[float, float, str, int]], threshold: int
) -> None:
    """Never fewer than happened within T, nothing older than 9/8 T; none above is missed."""
    sums = Sums(T, 1000, threshold)
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    clock = 1000.0
    for pause, late, key, count in history:
        clock += pause
        seen[key].append((clock - late, count))
        sum_ = sums.add(key, clock - late, count)
        assert sum_ in (0, sums.value(key, clock), sums.value(key, clock - late))
        within = sum(n for t, n in seen[key] if t > clock - T)
        assert sum_ >= within or within <= threshold or late
        for each, times in seen.items():
            shown = sums.value(each, clock)
            assert sum(n for t, n in times if t > clock - T) <= shown
            assert shown <= sum(n for t, n in times if t >= clock - T * 9 / 8)
    assert sums.dropped == 0


def test_what_is_subtracted_counts_no_more_where_a_total_is_kept() -> None:
    sums = Sums(T, 100, 9)
    assert sums.add("a", 1000.0, 11) == 11
    sums.subtract("a", 1000.0, 4)
    assert sums.add("a", 1010.0, 1) == 8
    sums.pop("a")
    assert sums.add("a", 1010.0, 1) == 0
