from hypothesis import given
from hypothesis import strategies as st

from throttled.model import Line, Rate
from throttled.store import rows


@given(st.lists(st.builds(Line, st.integers(0, 1 << 40), st.integers(0, 1 << 62)), max_size=100))
def test_the_latest_lines_come_back(lines: list[Line]) -> None:
    assert rows.read_lines(rows.write_lines(tuple(lines))) == tuple(lines[-rows.LINES :])


def test_a_missing_decision_has_no_lines() -> None:
    assert rows.read_lines(None) == ()


@given(st.none() | st.builds(Rate, st.integers(1, 10**5), st.floats(1, 1e9), st.integers(1, 10**5)))
def test_a_rate_comes_back(rate: Rate | None) -> None:
    assert rows.read_rate(rows.write_rate(rate)) == rate


def test_a_rate_that_is_none_is_the_configured_one() -> None:
    assert rows.read_rate(None) is rows.read_rate("[6]") is rows.read_rate("6/h") is None


@given(st.integers(0, (1 << 64) - 1))
def test_any_inode_fits(number: int) -> None:
    assert -(1 << 63) <= rows.signed(number) < 1 << 63
    assert rows.unsigned(rows.signed(number)) == number


def test_any_text_can_be_kept() -> None:
    assert rows.clip("wh\xff\0\n") == "wh\xff\0\n"
    assert rows.clip("stray \udcff") == "stray ?"
    assert rows.clip("x" * 2000) == "x" * rows.TEXT
