"""Messages between the daemon and the fleet process."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.fleet import frames
from throttled.fleet.frames import (
    Add,
    Added,
    Down,
    Entries,
    FrameError,
    Frames,
    Read,
    Recorded,
    Server,
    Up,
)

TO_DAEMON = (
    Up(1_700_000_000_000, Server("7.0.15", "noeviction"), ("1-0", b"d", b"m")),
    Entries("mx2", 5, [("5-0", b"\xff", b"m")]),
    Down("full", "OOM"),
    Added("6-0"),
)


@given(st.lists(st.integers(1, 40)))
def test_messages_come_whole_however_they_are_cut(cuts: list[int]) -> None:
    data = b"".join(frames.encode(message) for message in TO_DAEMON)
    reader = Frames(frames.to_daemon)
    found: list[object] = []
    for cut in cuts:
        found += reader.feed(data[:cut])
        data = data[cut:]
    assert [*found, *reader.feed(data)] == list(TO_DAEMON)


def test_each_direction_has_its_messages() -> None:
    sent: list[frames.ToProcess] = [Read({"mx2": "0-0"}), Recorded("mx2"), Add(b"d", b"m")]
    data = b"".join(frames.encode(message) for message in sent)
    assert list(Frames(frames.to_process).feed(data)) == sent
    with pytest.raises(FrameError):
        list(Frames(frames.to_daemon).feed(data))


def test_too_long_a_message_is_none() -> None:
    with pytest.raises(FrameError):
        list(Frames(frames.to_daemon).feed((frames.LONGEST + 1).to_bytes(4)))
    with pytest.raises(FrameError):
        frames.encode(Add(b"d" * frames.LONGEST, b"m"))


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_an_error(data: bytes) -> None:
    reader = Frames(frames.to_daemon)
    try:
        found = list(reader.feed(len(data).to_bytes(4) + data))
    except FrameError:
        found = []
    assert all(isinstance(each, msgspec.Struct) for each in found)
