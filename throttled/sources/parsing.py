"""Lines of long logs to events, on the other processors: parsing is a third of a replay.

What comes out is what one parser after the other lines gives. Owns the processes until `close`;
they ignore ^C, which is for their parent, and end with it. With one processor, or for a log of a
few thousand lines, there are none. Memory: `_AHEAD` pieces for each process.
"""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from datetime import UTC, tzinfo
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import NamedTuple

from throttled.model import Event
from throttled.parse.header import REPEATED
from throttled.parse.parser import Parser
from throttled.skipped import Skipped

#: Lines read before other processes are worth their start, which takes a quarter of a second.
_WORTH = 50_000
_PIECE = 2_000  # lines given to a process at a time
_AHEAD = 3  # pieces given to each process beyond the one that is waited for


_Events = tuple[list[Event | None], list[int]]


class Parsed(NamedTuple):
    """Some lines with their events."""

    lines: Sequence[str]
    events: list[Event | None]  # of each line
    failed: list[int]  # of lines that raise an unexpected error: where in `lines`
    consumed: int  # bytes of the file so far

    def report(self, skipped: Skipped) -> None:
        """Parse the lines that raise again, so that it is counted and logged why."""
        parse = Parser(UTC, 0.0).event
        skipped.run("line", [self.lines[index] for index in self.failed], parse)


class _Piece(NamedTuple):
    lines: list[str]
    before: list[str]  # the lines that repetitions may refer to
    consumed: int
    events: Future[_Events] | None  # None: to be parsed here


class Parsing:
    """The processes that parse."""

    def __init__(self, zone: tzinfo) -> None:
        """Prepare; nothing is started.

        Args:
            zone: of lines that name none.
        """
        self._zone = zone
        self._count = len(os.sched_getaffinity(0)) - 1
        self._pool: ProcessPoolExecutor | None = None
        self._ready: Future[None] | None = None
        self._lines = 0

    def parse(self, batches: Iterable[tuple[list[str], int]], reference: float) -> Iterator[Parsed]:
        """Yield the lines of one log with their events.

        Args:
            batches: lines, and the bytes consumed of the file so far.
            reference: see `Parser`.
        """
        parser = Parser(self._zone, reference)
        waiting: deque[_Piece] = deque()
        before: list[str] = []
        for lines, consumed in _pieces(batches):
            waiting.append(_Piece(lines, before, consumed, self._begin(reference, before, lines)))
            before = _unfinished(before, lines)
            if waiting[-1].events is None or len(waiting) > _AHEAD * self._count:
                yield _finished(waiting.popleft(), parser)
        while waiting:
            yield _finished(waiting.popleft(), parser)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _begin(
        self, reference: float, before: list[str], lines: list[str]
    ) -> Future[_Events] | None:
        """Let another process parse, if there is one; start them when the log proves long."""
        self._lines += len(lines)
        if self._pool is None and self._count > 0 and self._lines > _WORTH:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, _started, (self._zone,))
            self._ready = self._pool.submit(_nothing)
        if self._pool is None or self._ready is None or not self._ready.done():
            return None
        try:
            return self._pool.submit(_parse, reference, before, lines)
        except BrokenExecutor:
            return None


def _pieces(batches: Iterable[tuple[list[str], int]]) -> Iterator[tuple[list[str], int]]:
    """Yield batches joined to larger ones."""
    lines: list[str] = []
    consumed = 0
    for batch, consumed in batches:
        lines += batch
        if len(lines) >= _PIECE:
            yield lines, consumed
            lines = []
    yield lines, consumed


def _unfinished(before: list[str], lines: list[str]) -> list[str]:
    """Return the last line that is no repetition, and those after it: what follows may be one.

    A client can write what looks like one into each of its lines: no more than two pieces.
    """
    for index in range(len(lines) - 1, -1, -1):
        if REPEATED not in lines[index]:
            return lines[index:]
    return before + lines if len(before) <= _PIECE else lines


def _finished(piece: _Piece, parser: Parser) -> Parsed:
    """Wait for a piece; one whose process was killed, or that got none, is parsed here."""
    try:
        found = None if piece.events is None else piece.events.result()
    except BrokenExecutor:
        found = None
    return Parsed(
        piece.lines, *(found or _events(parser, piece.before, piece.lines)), piece.consumed
    )


def _events(parser: Parser, before: Sequence[str], lines: Iterable[str]) -> _Events:
    """Return the events of lines, and which lines raise an unexpected error."""
    _each(parser, before or [""])  # "": of another log it may have read
    return _each(parser, lines)


def _each(parser: Parser, lines: Iterable[str]) -> _Events:
    events: list[Event | None] = []
    failed: list[int] = []
    pending = iter(lines)
    while True:
        try:
            for line in pending:
                events.append(parser.event(line))  # noqa: PERF401 - what was read before stays
        except Exception:  # noqa: BLE001 - `report` parses that line again
            failed.append(len(events))
            events.append(None)
        else:
            return events, failed


# In the processes


class _Worker:
    """What one of the processes parses with."""

    zone: tzinfo
    reference = 0.0
    parser: Parser | None = None


def _started(zone: tzinfo) -> None:
    """Leave ^C to the parent, and end with it, however it ends."""
    _Worker.zone = zone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    """Do what shows that a process has started."""


def _parse(reference: float, before: Sequence[str], lines: Sequence[str]) -> _Events:
    """Return what `_events` does."""
    if _Worker.parser is None or _Worker.reference != reference:
        _Worker.parser, _Worker.reference = Parser(_Worker.zone, reference), reference
    return _events(_Worker.parser, before, lines)
