"""Splitting, against a reference that sees the whole file at once."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.tail import lines as module
from throttled.tail.lines import MAX_LINE, Splitter


def reference(data: bytes, limit: int) -> tuple[list[str], list[int], int]:
    """Split with a regular expression, one complete line at a time."""
    lines, offsets, cut = [], [], 0
    for match in re.finditer(rb"(\0*)([^\n]*)\n", data):
        cut += len(match[2]) > limit
        lines.append(match[2][:limit].decode("latin-1"))
        offsets.append(match.start(2))
    return lines, offsets, cut


@given(
    st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\0\0", b"x" * 9, b"a\r\n"])),
    st.integers(0, 1000),
)
def test_pieces_do_not_matter(pieces: list[bytes], base: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_LINE", 7)
        splitter = Splitter(base)
        lines: list[str] = []
        offsets: list[int] = []
        for piece in pieces:
            some, where = splitter.feed(piece)
            lines += some
            offsets += where
        data = b"".join(pieces)
        expected, starts, cut = reference(data, 7)
        assert lines == expected
        assert offsets == [base + start for start in starts]
        assert splitter.over_long == cut
        assert splitter.end == base + len(data)
        rest = data[data.rfind(b"\n") + 1 :].lstrip(b"\0")
        assert splitter.start == base + len(data) - len(rest)
        last = ([rest[:7].decode("latin-1")], [splitter.start]) if rest else ([], [])
        assert splitter.flush() == last


def test_lines_and_offsets() -> None:
    assert Splitter(100).feed(b"one\n\ntwo\r\nthr") == (["one", "", "two\r"], [100, 104, 105])


def test_only_newline_ends_a_line() -> None:
    text = b"a\rb\x0bc\x0cd\x1ce\x85f\xe2\x80\xa8g\n"
    assert Splitter().feed(text) == ([text[:-1].decode("latin-1")], [0])


def test_partial_line_is_kept_until_its_end_comes() -> None:
    splitter = Splitter()
    assert splitter.feed(b"connect from unk") == ([], [])
    assert (splitter.start, splitter.end) == (0, 16)
    assert splitter.feed(b"nown[198.51.100.9]\nx") == (["connect from unknown[198.51.100.9]"], [0])
    assert (splitter.start, splitter.end) == (35, 36)


def test_over_long_line_is_cut_and_its_rest_discarded() -> None:
    splitter = Splitter()
    for _ in range(100):
        assert splitter.feed(b"x" * MAX_LINE) == ([], [])
    assert len(splitter._pending) == MAX_LINE
    assert splitter.feed(b"\nnext\n") == (["x" * MAX_LINE, "next"], [0, 100 * MAX_LINE + 1])
    assert splitter.over_long == 1


def test_line_of_exactly_the_limit_is_whole() -> None:
    splitter = Splitter()
    assert splitter.feed(b"x" * MAX_LINE + b"\n") == (["x" * MAX_LINE], [0])
    assert splitter.over_long == 0


def test_hole_of_nuls_before_a_line_takes_no_memory() -> None:
    splitter = Splitter()
    for _ in range(1000):
        splitter.feed(bytes(MAX_LINE))
    assert splitter._pending == ""
    assert splitter.feed(b"a\0b\n") == (["a\0b"], [1000 * MAX_LINE])
    assert splitter.over_long == 0


def test_flush_of_a_cut_line_counts_it() -> None:
    splitter = Splitter()
    splitter.feed(b"x" * (MAX_LINE + 1))
    assert splitter.flush() == (["x" * MAX_LINE], [0])
    assert splitter.over_long == 1
