from throttled.decide.trace import Trace
from throttled.model import Line


def test_latest_lines_oldest_first() -> None:
    trace = Trace(100, 100)
    for offset in range(10):
        trace.add("a" if offset % 2 else "b", 1.0, 3, offset * 100)
    assert trace.lines("a", 3) == (Line(3, 500), Line(3, 700), Line(3, 900))
    assert trace.lines("b", 100) == tuple(Line(3, o) for o in (0, 200, 400, 600, 800))
    assert trace.lines("c", 3) == ()


def test_a_client_without_a_line_is_among_the_latest() -> None:
    trace = Trace(10, 10)
    trace.add("a", 1.0, 1, 0)
    trace.record("b")
    assert trace.latest() == ["b", "a"]
    assert trace.lines("b", 9) == ()


def test_large_offsets_and_sources() -> None:
    """A database numbers each file that a rotation makes: no number may stand for two."""
    trace = Trace(2, 10)
    places = [Line(4095, (1 << 52) - 1), Line(4096, 0), Line((1 << 63) - 1, (1 << 63) - 1)]
    for place in places:
        trace.add("a", 1.0, place.source, place.offset)
    assert trace.lines("a", 9) == tuple(places[1:])


def test_what_the_ring_has_overwritten_is_gone() -> None:
    trace = Trace(4, 100)
    trace.add("a", 1.0, 1, 0)
    for offset in range(1, 4):
        trace.add("b", 1.0, 1, offset)
    assert trace.lines("a", 9) == (Line(1, 0),)
    trace.add("b", 1.0, 1, 4)
    assert trace.lines("a", 9) == ()
    trace.add("a", 1.0, 1, 5)
    assert trace.lines("a", 9) == (Line(1, 5),)
    assert trace.lines("b", 9) == (Line(1, 2), Line(1, 3), Line(1, 4))


def test_forget() -> None:
    trace = Trace(4, 100)
    trace.add("a", 1.0, 1, 0)
    trace.reset("a")
    trace.reset("nobody")
    assert trace.lines("a", 9) == ()
    trace.add("b", 1.0, 1, 1)
    trace.clear()
    assert trace.lines("b", 9) == ()
    assert trace.latest() == []


def test_the_latest_clients() -> None:
    trace = Trace(4, 4)
    for offset, client in enumerate("abcab"):
        trace.add(client, 1.0, 1, offset)
    assert trace.latest() == ["b", "a", "c"]
    for offset in range(200):
        trace.add("d", 1.0, 1, offset)
    assert trace.latest() == ["d"]
