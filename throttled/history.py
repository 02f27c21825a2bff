"""Old logs: which rotated files belong to one, and in what order to read them.

Owns no state. Lines without a year are dated by when their file was last written. Logs are read one
after the other, also where they overlap in time: those of two instances are better read apart.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import tzinfo
from pathlib import Path

from throttled.parse.parser import Parser
from throttled.tail import siblings
from throttled.tail.archive import read_log


def in_order(paths: Iterable[str], zone: tzinfo) -> list[str]:
    """Return logs by the times of their first events: rotated logs are read oldest first.

    Args:
        paths: files, plain or compressed; "-" is standard input, which is taken as it comes.
        zone: of lines that name none.

    Raises:
        SourceError: a log cannot be read.
    """
    return sorted(paths, key=lambda path: _begin(path, zone))


def reference(path: str) -> float:
    """Return when a log was last written: lines without a year are from the year before that."""
    if path != "-":
        with suppress(OSError):  # told by whoever reads it
            return Path(path).stat().st_mtime
    return time.time()


def rotated(path: str) -> list[str]:
    """Return a log and what rotation made of it before, oldest first."""
    files = siblings.scan(path)
    log = next((file for file in files if file.scheme == "log"), None)
    return [*(str(file.path) for file in siblings.older(files, log)), path] if log else [path]


def _begin(path: str, zone: tzinfo) -> float:
    if path == "-":
        return 0.0
    parse = Parser(zone, reference(path)).event
    for lines, _ in read_log(path):
        return next((e.time for line in lines if (e := parse(line)) is not None), 0.0)
    return 0.0
