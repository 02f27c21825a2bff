"""What was logged before a position: to rebuild counters after a restart.

Owns nothing; descriptors are closed when the iterator is exhausted or dropped.

Limits: what archives hold is kept in memory, at most `limit` bytes of text; an archive larger than
`MAX_ARCHIVE` (inflating 1 GiB takes seconds) or a damaged one is where reading back stops. If files
of the directory are renamed during each of ten tries, nothing is read.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

from msgspec.structs import replace

from throttled.log_paths import is_journal
from throttled.tail import journal, siblings
from throttled.tail.archive import PIECE
from throttled.tail.finding import TRIES, open_generation
from throttled.tail.generation import Packed, Plain, RewrittenError
from throttled.tail.position import Batch, Position

MAX_ARCHIVE = 67_108_864  # bytes, compressed

_Lines = tuple[list[str], list[int]]


def before(position: Position, limit: int) -> Iterator[Batch]:
    """Yield the lines of the last `limit` bytes before a position, oldest first.

    They come from the earlier generations too, where the log was rotated lately, and begin with
    a whole line. `Batch.position` is the position given; `done` is never set.

    Raises:
        SourceError: the journal cannot be read.
    """
    if is_journal(position.path):
        return journal.before(position, limit)
    return _before(position, limit)


def _before(position: Position, limit: int) -> Iterator[Batch]:
    for _ in range(TRIES):
        files = siblings.scan(position.path)
        with ExitStack() as stack:
            parts = _parts(position, files, limit, stack)
            if not siblings.unchanged(position.path, files):
                continue  # rotated meanwhile: a name may have been another file's when opened
            for generation, lines in parts:
                for text, offsets in lines:
                    if text:
                        place = generation.device, generation.inode, generation.mark
                        yield Batch(position.path, *place, text, offsets, position, done=False)
            return


def _parts(
    position: Position, files: list[siblings.Sibling], limit: int, stack: ExitStack
) -> list[tuple[Plain | Packed, Iterator[_Lines]]]:
    """Open the generations that hold the last `limit` bytes before a position, oldest first."""
    newest = siblings.find(files, position.inode, position.fingerprint)
    if newest is None:
        return []
    ends = {  # what follows is still to come; compressed since, it is another inode
        file.path: older.offset
        for older in position.older
        if (file := siblings.find(files, older.inode, older.fingerprint))
    }
    parts: list[tuple[Plain | Packed, Iterator[_Lines]]] = []
    for file in (newest, *reversed(siblings.older(files, newest))):
        here = replace(position, offset=0) if file is newest else None
        generation = open_generation(file, here)
        if generation is None:
            break
        stack.callback(generation.close)
        if isinstance(generation, Plain):
            end = position.offset if here else ends.get(file.path, file.size)
            size = min(limit, end)
            lines = lines_between(generation, end - size, end)
        elif file.size > MAX_ARCHIVE:
            break
        else:
            stop = position.offset if here else ends.get(file.path)
            lines, size = _inflated(generation, stop, limit)
        parts.append((generation, lines))
        limit -= size
        if limit <= 0 or generation.damaged:
            break
    return parts[::-1]


def lines_between(plain: Plain, start: int, end: int) -> Iterator[_Lines]:
    """Yield what begins at `start` or later and before `end`."""
    plain.seek(max(start - 1, 0))
    rest = start > 0  # first comes the rest of a line that began before, or nothing of it
    while plain.end < end:
        at = plain.end
        try:
            lines, offsets, _ = plain.read(min(PIECE, end - at))
        except RewrittenError:
            return
        if plain.end == at:  # the position is of a file that was longer once
            break
        yield lines[rest:], offsets[rest:]
        rest = rest and not lines
    yield plain.flush()


def _inflated(packed: Packed, end: int | None, limit: int) -> tuple[Iterator[_Lines], int]:
    """Return the last lines before `end` (None: all there are), and how many bytes these are."""
    kept: deque[_Lines] = deque()
    more = True
    while more and (end is None or packed.end < end):
        lines, offsets, more = packed.read(PIECE)
        if lines:
            kept.append((lines, offsets))
        while len(kept) > 1 and packed.end - kept[1][1][0] > limit:
            kept.popleft()
    if packed.damaged:
        return iter(()), 0
    kept.append(packed.flush())
    end = packed.end if end is None else end
    cut = [
        (lines[first:last], offsets[first:last])
        for lines, offsets in kept
        for first, last in [(bisect_left(offsets, end - limit), bisect_left(offsets, end))]
    ]
    return iter(cut), min(limit, end)
