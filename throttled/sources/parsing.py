"""Lines of logs to events; of long logs in a process of its own, as parsing is half of a replay.

One process for each log, while it is read: deciding about what it parses takes as long, so a second
one would wait for that. It is forked, so it reads whatever its parent would have read; it ignores
^C, which is for its parent, and ends with it. With one processor, or for a log of a few thousand
lines, there is none. Memory: what the pipe between the two takes. Owns that process.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC
from fcntl import F_SETPIPE_SZ, fcntl
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from operator import length_hint
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from throttled.errors import SourceError
from throttled.log_paths import is_journal
from throttled.model import Event
from throttled.parse.parser import Parser
from throttled.skipped import Skipped

#: Bytes of a file that are worth a process, whose start takes 20 ms.
_WORTH = 1_000_000
#: Bytes of events that may wait: what Linux lets any user ask for.
_AHEAD = 1 << 20


class Parsed(NamedTuple):
    """Some lines with their events."""

    lines: int
    events: list[Event]  # of the lines that have one
    kinds: dict[str, int]  # how many of each kind
    failed: list[str]  # lines that raise an unexpected error
    consumed: int  # bytes of the file so far

    def report(self, skipped: Skipped) -> None:
        """Parse the lines that raise again, so that it is counted and logged why."""
        skipped.run("line", self.failed, Parser(UTC, 0.0).event)


def parse(path: str, batches: Iterable[tuple[list[str], int]], parser: Parser) -> Iterator[Parsed]:
    """Yield the lines of one log with their events.

    Args:
        path: of the log, see `throttled.sources.history.read`.
        batches: its lines, and the bytes consumed of the file so far.
        parser: of this log.

    Raises:
        SourceError: the log cannot be read.
    """
    parsed = (_parsed(parser, lines, consumed) for lines, consumed in batches)
    return _ahead(parsed) if len(os.sched_getaffinity(0)) > 1 and _long(path) else parsed


def _long(path: str) -> bool:
    """Return whether a log is worth a process; of a journal or a pipe it is not known."""
    if path == "-" or is_journal(path):
        return True
    try:
        return Path(path).stat().st_size >= _WORTH
    except OSError:  # reported by the code that reads it
        return False


def _parsed(parser: Parser, lines: list[str], consumed: int) -> Parsed:
    events: list[Event] = []
    failed: list[str] = []
    pending = iter(lines)
    while True:
        try:
            for event in filter(None, map(parser.event, pending)):
                events.append(event)  # noqa: PERF402 - what was read before stays
            break
        except Exception:  # noqa: BLE001 - `report` parses that line again
            failed.append(lines[len(lines) - length_hint(pending) - 1])
    return Parsed(len(lines), events, Counter(e.kind for e in events), failed, consumed)


def _ahead(items: Iterator[Parsed]) -> Iterator[Parsed]:
    """Yield what an iterator yields, from a process in which it runs ahead."""
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with suppress(OSError):  # it is refused where many pipes are in use: less waits
        fcntl(sender, F_SETPIPE_SZ, _AHEAD)
    process = context.Process(target=_run, args=(items, sender), daemon=True)
    try:
        process.start()
    except OSError:  # this user has no more processes, or there is too little memory
        receiver.close()
        yield from items
        return
    finally:
        sender.close()
    try:
        while (item := _received(receiver)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        process.kill()  # before it can see that nobody receives
        process.join()
        receiver.close()


def _received(receiver: Connection) -> Parsed | Exception | None:
    """Return what `_run` sends."""
    try:
        found: Parsed | Exception | None = receiver.recv()
    except (EOFError, OSError):
        text = "the process that parses the log was killed"
        return SourceError(text, "was there too little memory? see the kernel's log")
    return found


# In the process


def _run(items: Iterator[Parsed], sender: Connection) -> None:
    """Send items, then None or what was raised; end without touching what is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        for item in items:
            sender.send(item)
        sender.send(None)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        with suppress(OSError):  # the parent was killed
            sender.send(error)
    os._exit(0)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
