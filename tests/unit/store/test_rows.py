from hypothesis import given
from hypothesis import strategies as st

from throttled.model import Line
from throttled.store import rows


@given(st.lists(st.builds(Line, st.integers(0, 1 << 40), st.integers(0, 1 << 62)), max_size=100))
def test_the_latest_lines_come_back(lines: list[Line]) -> None:
    assert rows.read_lines(rows.write_lines(tuple(lines))) == tuple(lines[-rows.LINES :])


def test_a_missing_decision_has_no_lines() -> None:
    assert rows.read_lines(None) == ()


@given(st.integers(0, (1 << 64) - 1))
def test_any_inode_fits(number: int) -> None:
    assert -(1 << 63) <= rows.signed(number) < 1 << 63
    assert rows.unsigned(rows.signed(number)) == number


def test_any_text_can_be_kept() -> None:
    assert rows.clip("wh\xff\0\n") == "wh\xff\0\n"
    assert rows.clip("stray \udcff") == "stray ?"
    assert rows.clip("x" * 2000) == "x" * rows.TEXT
