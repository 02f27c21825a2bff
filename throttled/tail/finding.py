"""Opening the generations of a log: the file at its path, and those that a position means.

Owns nothing: what is opened belongs to the caller.

Limits: a directory in which files are renamed faster than it can be looked at ten times gives up,
as if the file was gone.
"""

import os
from collections.abc import Sequence
from itertools import takewhile
from stat import S_ISREG

from throttled.errors import SourceError
from throttled.tail import siblings
from throttled.tail.failures import unreadable
from throttled.tail.generation import Packed, Plain
from throttled.tail.position import Position, fingerprint

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_TRIES = 10


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
    if S_ISREG(os.fstat(fd).st_mode):
        return Plain(fd)
    os.close(fd)
    raise SourceError(f"cannot follow {path}: not a regular file", "name a log file")


def locate(position: Position) -> Plain | Packed | None:
    """Open the generation that a position means, at its offset, whatever it is called now."""
    for _ in range(_TRIES):
        files = siblings.scan(position.path)
        file = siblings.find(files, position.inode, position.fingerprint)
        if file and (opened := open_generation(file, position)):
            return opened
        if siblings.unchanged(position.path, files):
            break
    return None


def between(position: Position, log: Plain) -> list[Plain | Packed]:
    """Open the generations after the one that a position means and before the log itself.

    Args:
        position: of an older generation.
        log: opened at the path; may have been rotated since.
    """
    for _ in range(_TRIES):
        files = siblings.scan(position.path)
        known = siblings.find(files, position.inode, position.fingerprint)
        later = siblings.newer(files, known) if known else []
        later = list(takewhile(lambda file: file.inode != log.inode, later))
        opened = [generation for file in later if (generation := open_generation(file))]
        if siblings.unchanged(position.path, files):
            return opened
        for generation in opened:
            generation.close()
    return []


def open_generation(
    file: siblings.Sibling, position: Position | None = None
) -> Plain | Packed | None:
    """Open a file at a position, or its start; None if its name is another file's by now."""
    if position is None:
        mark = fingerprint(file.head())
        position = Position(str(file.path), file.device, file.inode, 0, mark)
    try:
        fd = os.open(file.path, _FLAGS)
    except OSError:
        return None
    if os.fstat(fd).st_ino != file.inode:
        os.close(fd)
        return None
    if file.packed:
        return Packed(fd, position)
    plain = Plain(fd, final=file.inode != position.inode)
    plain.seek(position.offset)
    return plain
