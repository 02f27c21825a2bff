"""The files that the facts about this host were read from: when do they change?

`Watch` owns an inotify instance. It watches the files' directories, as editors and tools replace
files, and those of the files that symbolic links lead to. A directory that appears later, or is
replaced as a whole, is noticed by `fingerprint` on a timer.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from inotify_simple import INotify, flags

from throttled.errors import HostError

_MASK = (
    flags.CLOSE_WRITE
    | flags.CREATE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.ATTRIB  # a file becomes readable
    | flags.ONLYDIR
)

Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(paths: Iterable[str]) -> Fingerprint:
    """Return what changes whenever one of the files does: (path, inode, mtime in ns).

    A file that is not there has no entry, so that its end is a change too.
    """
    marks = []
    for path in paths:
        with contextlib.suppress(OSError):
            stat = Path(path).stat()
            marks.append((path, stat.st_ino, stat.st_mtime_ns))
    return tuple(marks)


class FileWatch:
    """A descriptor that becomes readable when something happens to one of the files."""

    def __init__(self) -> None:
        """Watch nothing yet.

        Raises:
            HostError: the kernel allows no more inotify instances.
        """
        self._names: dict[int, set[str]] = {}  # by watch descriptor of a directory
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            raise HostError(f"changes of Postfix's configuration: {error}") from error

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return int(self._inotify.fileno())

    def follow(self, paths: Iterable[str]) -> None:
        """Watch these files, and no others; what cannot be watched is left to `fingerprint`."""
        before, self._names = self._names, {}
        for path in paths:
            for file in (Path(path), Path(os.path.realpath(path))):
                with contextlib.suppress(OSError):
                    watch = self._inotify.add_watch(file.parent, _MASK)
                    self._names.setdefault(watch, set()).add(file.name)
        for watch in before.keys() - self._names.keys():
            with contextlib.suppress(OSError):  # the directory is gone, and its watch with it
                self._inotify.rm_watch(watch)

    def drain(self) -> bool:
        """Take in what happened; return whether it was to one of the files."""
        changed = False
        for event in self._inotify.read(timeout=0):
            lost = event.mask & (flags.Q_OVERFLOW | flags.IGNORED)
            changed |= bool(lost) or event.name in self._names.get(event.wd, ())
        return changed

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()
