"""Opening the generations of a log: the file at its path, and those that a position means.

Owns nothing: what is opened belongs to the caller.

Limits: if files of the directory are renamed during each of ten searches, the file counts as
gone.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from stat import S_ISREG

from throttled.errors import SourceError
from throttled.linux.failures import shortage, unreadable
from throttled.tail import siblings
from throttled.tail.archive import UNREADABLE, Counted
from throttled.tail.generation import Packed, Plain
from throttled.tail.position import Position, fingerprint, fits

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
TRIES = 10


def distinct(paths: Sequence[str]) -> list[str]:
    """Return logs without those that are, by symbolic links, one that was named before."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(os.path.realpath(path), path)
    return list(first.values())


def open_log(path: str) -> Plain | None:
    """Open a log at its start; None if it is not there.

    Raises:
        SourceError: it may not be read, or is no regular file.
    """
    try:
        fd = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        if S_ISREG(os.fstat(fd).st_mode):
            return Plain(fd)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise SourceError(f"cannot follow {path}: not a regular file", "name a log file")


def locate(position: Position) -> Plain | Packed | None:
    """Open the generation that a position means, at its offset, whatever it is called now.

    Raises:
        SourceError: this host lacks descriptors or memory just now.
    """
    for _ in range(TRIES):
        files = siblings.scan(position.path)
        file = siblings.find(files, position.inode, position.fingerprint)
        file = file or siblings.overwritten(files, position)
        if file and (opened := open_generation(file, position)):
            return opened
        if siblings.unchanged(position.path, files):
            break
    return None


def locate_all(positions: Sequence[Position]) -> list[Plain | Packed | None]:
    """Open the generations that some positions mean: all that are there, or none.

    Raises:
        SourceError: see `locate`.
    """
    with ExitStack() as opened:
        found = []
        for position in positions:
            generation = locate(position)
            if generation is not None:
                opened.callback(generation.close)
            found.append(generation)
        opened.pop_all()
    return found


def between(position: Position, log: Plain) -> tuple[list[Plain | Packed], int]:
    """Open the generations after the one that a position means and before the log itself.

    Args:
        position: of an older generation.
        log: opened at the path; may have been rotated since.

    Returns:
        The generations, and how many there are that cannot be opened.

    Raises:
        SourceError: see `locate`.
    """
    for _ in range(TRIES):
        files = siblings.scan(position.path)
        known = siblings.find(files, position.inode, position.fingerprint)
        here = log.position(position.path)  # it may have been compressed: another inode
        end = siblings.find(files, here.inode, here.fingerprint)
        later = siblings.newer(files, known) if known else []
        if end in later:
            later = later[: later.index(end)]
        with ExitStack() as opened:
            found = []
            for file in later:
                generation = open_generation(file)
                if generation is not None:
                    opened.callback(generation.close)
                    found.append(generation)
            if siblings.unchanged(position.path, files):
                opened.pop_all()
                return found, len(later) - len(found)
    return [], 0


def open_generation(
    file: siblings.Sibling, position: Position | None = None
) -> Plain | Packed | None:
    """Open a file at a position, or its start; None if its name is another file's by now.

    That file may have the same inode number: of a removed file it is soon used again.

    Raises:
        SourceError: this host lacks descriptors or memory just now.
    """
    if position is None:
        mark = fingerprint(file.head())
        position = Position(str(file.path), file.device, file.inode, 0, mark)
    try:
        fd = os.open(file.path, _FLAGS)
    except OSError as error:
        if shortage(error):
            raise unreadable(str(file.path), error) from error
        return None
    try:
        if os.fstat(fd).st_ino == file.inode and (opened := _opened(fd, file, position)):
            return opened
    except UNREADABLE:  # it cannot be read
        pass
    os.close(fd)
    return None


def _opened(fd: int, file: siblings.Sibling, position: Position) -> Plain | Packed | None:
    """Return what an open file holds, at a position, if that is of this file."""
    mark = position.fingerprint
    if file.packed:
        known = not mark or fits(mark, file.head_of(Counted(fd, closefd=False)))
        os.lseek(fd, 0, os.SEEK_SET)
        return Packed(fd, position) if known else None
    plain = Plain(fd, final=file.inode != position.inode)
    if mark and not fits(mark, plain.head) and not plain.continues(position):
        return None
    plain.seek(position.offset)
    return plain
