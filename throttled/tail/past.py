"""What was logged before a position, the latest generation first: for evidence, not for decisions.

Within a file lines come in their order. The journal is read backwards, in chunks whose
lines are in order. Owns nothing; what is opened is closed when the iterator is exhausted or
dropped.

Limits: a damaged archive ends at the damage; a file that cannot be opened is skipped.
"""

from collections.abc import Generator, Iterator

from msgspec import Struct

from throttled.log_paths import is_journal
from throttled.tail import journal, siblings
from throttled.tail.archive import PIECE
from throttled.tail.behind import lines_between
from throttled.tail.finding import open_generation
from throttled.tail.generation import Packed, Plain
from throttled.tail.position import Position


class Place(Struct, frozen=True):
    """How far the past of a log has been read."""

    begin: Position  # what is before it is the past; of the journal, what has not been read yet
    done: tuple[bytes, ...] = ()  # fingerprints of the generations that were read
    mark: bytes = b""  # of the one that is being read …
    offset: int = 0  # … and where to continue in it
    started: bool = False  # of the journal: whether the entry of `begin` was read


class Piece(Struct):
    """Some lines of the past."""

    name: str  # of the file
    written: float  # wall clock, when the file was written last: lines may have no year
    lines: list[str]
    place: Place  # where to continue after these


def pieces(place: Place, since: float, limit: int) -> Generator[Piece, None, None]:
    """Yield what was logged before a place.

    Args:
        place: where to begin.
        since: wall clock; files that were written last before then are left out.
        limit: bytes of the newest file, at most; the caller counts those of the others.

    Raises:
        SourceError: the log, or its directory, cannot be read.
    """
    if is_journal(place.begin.path):
        return _journal(place, since)
    return _files(place, since, limit)


def _journal(place: Place, since: float) -> Generator[Piece, None, None]:
    for lines, begin in journal.backwards(place.begin, inclusive=not place.started):
        place = Place(begin, started=True)
        written = begin.offset / 1e6
        yield Piece(begin.path, written, lines, place)
        if written < since:
            return


def _files(place: Place, since: float, limit: int) -> Generator[Piece, None, None]:
    begin, done = place.begin, list(place.done)
    files = siblings.scan(begin.path)
    newest = siblings.find(files, begin.inode, begin.fingerprint)
    if newest is None:
        return
    for file in (newest, *reversed(siblings.older(files, newest))):
        if file.modified < since:
            return
        generation = open_generation(file)
        if generation is None:
            continue
        try:
            mark = generation.mark
            if mark in done:
                continue
            first = place.offset if mark == place.mark else 0
            if file is newest:
                first = max(first, begin.offset - limit)
            end = begin.offset if file is newest else None
            for lines, after in _lines(generation, first, end):
                at = Place(begin, tuple(done), mark, after)
                yield Piece(str(file.path), file.modified, lines, at)
            done.append(mark)
            yield Piece(str(file.path), file.modified, [], Place(begin, tuple(done)))
        finally:
            generation.close()


def _lines(
    generation: Plain | Packed, first: int, end: int | None
) -> Iterator[tuple[list[str], int]]:
    """Yield lines from an offset to another, or the end, with the offset that comes after.

    An archive is read from its begin, in pieces without lines as far as `first`.
    """
    if isinstance(generation, Plain):
        size = generation.lag() if end is None else end
        for lines, _ in lines_between(generation, first, size):
            yield lines, min(generation.position("").offset, size)
        return
    more = True
    while more:
        lines, offsets, more = generation.read(PIECE)
        yield _from(first, lines, offsets), max(first, generation.position("").offset)
    yield _from(first, *generation.flush()), generation.end


def _from(first: int, lines: list[str], offsets: list[int]) -> list[str]:
    return [line for line, at in zip(lines, offsets, strict=True) if at >= first]
