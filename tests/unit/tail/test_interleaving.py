"""Rotation and compression step by step, at every moment of a reader's start: all lines, once.

The writer and logrotate are a script of single system calls. Some of its steps are done right
before one system call of the reader, for each such call, as if the reader had been stopped there.
"""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from throttled.tail.behind import before
from throttled.tail.file import FileTail, Position

ROTATIONS = 9
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Writer:
    """Two writers with one log, and logrotate with `delaycompress`: `.1` and `.2` stay plain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self.done = 0
        self.fd = os.open(path, FLAGS)
        self._steps = self._script()

    def advance(self, count: int) -> None:
        for _ in range(count):
            if next(self._steps, None) is not None:
                self.done += 1

    def _write(self, fd: int) -> str:
        os.write(fd, b"Nov 22 16:12:00 host postfix/smtpd[1]: %07d\n" % self.written)
        self.written += 1
        return "write"

    def _script(self) -> Iterator[str]:
        for _ in range(ROTATIONS):
            yield self._write(self.fd)
            yield from self._rename()
            yield self._write(self.fd)  # not told to reopen yet
            new = os.open(self.path, FLAGS)
            yield "create"
            yield self._write(new)
            yield self._write(self.fd)
            os.close(self.fd)
            self.fd = new
            yield from self._compress()
        yield self._write(self.fd)

    def _rename(self) -> Iterator[str]:
        names = [f".{number}{end}" for number in range(ROTATIONS, 0, -1) for end in ("", ".gz")]
        for name in [*names, ""]:
            old = Path(f"{self.path}{name}")
            number, _, end = name[1:].partition(".")
            if old.exists():
                old.rename(f"{self.path}.{int(number or 0) + 1}{end and '.' + end}")
                yield "rename"

    def _compress(self) -> Iterator[str]:
        old = Path(f"{self.path}.3")
        if not old.exists():
            return
        archive = Path(f"{old}.gz")
        data = gzip.compress(old.read_bytes(), 1)
        with archive.open("wb") as target:
            yield "create"
            target.write(data[: len(data) // 2])
            target.flush()
            yield "half"
            target.write(data[len(data) // 2 :])
        yield "whole"
        st = old.stat()
        os.utime(archive, ns=(st.st_atime_ns, st.st_mtime_ns))
        yield "time"
        old.unlink()
        yield "unlink"


class Calls:
    """The system calls by which the reader finds files; `act` comes before the one due."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.due = 0
        self.act: Callable[[], None] = lambda: None
        for name in ("open", "stat", "listdir"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def arm(self, due: int, act: Callable[[], None]) -> None:
        """Act before the call number `due` from now on."""
        self.count, self.due, self.act = 0, due, act

    def disarm(self) -> bool:
        """Return whether that call came."""
        came, self.due = not self.due, 0
        return came

    def _wrapped(self, real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.due:
                self.due = 0  # the writer's own calls do not count
                self.act()
            return real(*arguments, **named)

        return call


def rest(tail: FileTail) -> tuple[list[int], Position | None]:
    """Return the numbers of what there is to read now."""
    found: list[int] = []
    while (batch := tail.read()) is not None:
        found += [int(line.split()[5]) for line in batch.lines]
    return found, tail.position


def prepare(directory: Path, start: int) -> tuple[Writer, list[int], Position]:
    """Let a reader follow for `start` steps; return what it read and where it stood then."""
    directory.mkdir()
    writer = Writer(directory / "mail.log")
    tail = FileTail(str(writer.path), None, from_start=True)
    seen: list[int] = []
    for _ in range(start // 5):
        writer.advance(5)
        found, position = rest(tail)
        seen += found
    tail.close()
    writer.advance(3)  # while there is no reader
    assert position
    return writer, seen, position


def read_on(directory: Path, calls: Calls, start: int, due: int, steps: int) -> bool:
    """Restart a reader; some steps come before its call number `due`: return if there is one."""
    writer, seen, position = prepare(directory, start)
    calls.arm(due, lambda: writer.advance(steps))
    tail = FileTail(str(writer.path), position)
    reached = calls.disarm()
    seen += rest(tail)[0]
    writer.advance(1000)
    seen += rest(tail)[0]
    gaps = tail.state().gaps
    tail.close()
    os.close(writer.fd)
    assert (sorted(seen), gaps) == (list(range(writer.written)), 0), (start, due, steps)
    return reached


def read_back(directory: Path, calls: Calls, start: int, due: int, steps: int) -> bool:
    """Read what a position has behind it; some steps come before the call number `due`."""
    writer, seen, position = prepare(directory, start)
    calls.arm(due, lambda: writer.advance(steps))
    behind = [int(line.split()[5]) for batch in before(position, 1 << 20) for line in batch.lines]
    reached = calls.disarm()
    os.close(writer.fd)
    assert sorted(behind) == sorted(seen), (start, due, steps)
    return reached


@pytest.mark.parametrize("restart", [read_on, read_back])
@pytest.mark.parametrize(("start", "steps"), [(30, 70), (45, 5), (55, 70), (60, 1)])
def test_rotations_at_every_moment_of_a_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    restart: Callable[[Path, Calls, int, int, int], bool],
    start: int,
    steps: int,
) -> None:
    calls = Calls(monkeypatch)
    due = 1
    while restart(tmp_path / f"{due}", calls, start, due, steps):
        due += 1
    assert due > 9
