from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.highest import Peaks

A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"


@given(st.lists(st.integers(1, 9), min_size=1))
def test_the_highest_ever_shown(shown: list[int]) -> None:
    peaks = Peaks(10)
    for value in shown:
        peaks.add(A, value)
    assert peaks.highest == {A: max(shown)}


def test_strangers_do_not_displace_who_proves_good() -> None:
    peaks = Peaks(1, good={B})
    peaks.add(A, 5)
    peaks.add(A, 4)
    assert not peaks.full
    peaks.add(B, 2)
    peaks.add(C, 3)
    assert (peaks.highest, peaks.full) == ({A: 5, B: 2}, True)
    peaks.add(A, 6)
    peaks.add_good(C, 3)  # twice as many is all
    assert peaks.highest == {A: 6, B: 2}


def test_adding_a_good_client_lowers_no_peak() -> None:
    peaks = Peaks(1)
    peaks.add_good(A, 5)
    peaks.add_good(A, 4)
    assert peaks.highest == {A: 5}


def test_what_was_surpassed_since_it_was_written_stays() -> None:
    peaks = Peaks(1)
    peaks.add(A, 5)
    peaks.add(B, 1)
    peaks.add(A, 6)
    peaks.written(A, 5)
    peaks.written(C, 1)
    assert (peaks.highest, peaks.full) == ({A: 6}, True)
    peaks.written(A, 6)
    assert (peaks.highest, peaks.full) == ({}, False)


def test_a_peak_in_the_store_is_removed() -> None:
    peaks = Peaks(1)
    peaks.add(A, 5)
    peaks.written(A, 4)
    assert peaks.highest == {A: 5}
    peaks.written(A, 5)
    peaks.written(B, 5)
    assert peaks.highest == {}
