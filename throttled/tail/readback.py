"""Single log lines read back by their position, to show why a client was banned.

Owns nothing.

Limits: only the first `MAX_INFLATED` bytes of an archive are searched: more would stop the event
loop for too long. Whether another file now has the
inode is known by the fingerprint only; without one, an offset at which no line begins shows it.
"""

import os
from collections.abc import Sequence

from throttled.log_paths import is_journal
from throttled.tail import journal, siblings
from throttled.tail.archive import PIECE
from throttled.tail.finding import open_generation
from throttled.tail.generation import Plain
from throttled.tail.lines import MAX_LINE

MAX_INFLATED = 67_108_864  # bytes: about half a second


def lines_at(
    path: str, device: int, inode: int, mark: bytes, offsets: Sequence[int]
) -> list[str | None]:
    """Return the lines at these offsets of one generation of a log; None for one that is gone.

    Args:
        path: of the log, as configured.
        device: with `inode`, the generation: see `Batch`.
        inode: see `device`.
        mark: the fingerprint of a `Position` in this generation, if known; without it, files that
            were compressed since are not found.
        offsets: bytes, each the start of a line.

    Raises:
        SourceError: the journal cannot be read.
    """
    if is_journal(path):
        return journal.lines_at(path, offsets)
    file = siblings.find(siblings.scan(path), inode, mark)
    generation = open_generation(file) if file and (mark or file.device == device) else None
    if generation is None:
        return [None] * len(offsets)
    try:
        if isinstance(generation, Plain):
            return [_line(generation.fd, offset) for offset in offsets]
        wanted = set(offsets)
        found: dict[int, str] = {}
        more = True
        while more and len(found) < len(wanted) and generation.end < MAX_INFLATED:
            lines, starts, more = generation.read(PIECE)
            pairs = zip(starts, lines, strict=True)
            found.update((start, line) for start, line in pairs if start in wanted)
        return [found.get(offset) for offset in offsets]
    finally:
        generation.close()


def _line(fd: int, offset: int) -> str | None:
    """Return the line that begins at an offset, if one begins there."""
    try:
        before = os.pread(fd, 1, offset - 1) if offset else b"\n"
        data = os.pread(fd, MAX_LINE, offset)
    except (OSError, OverflowError):  # no such offset
        return None
    if not data or before not in {b"\n", b"\0"}:  # a hole of NULs may come before a line
        return None
    return data.partition(b"\n")[0].decode("latin-1")
