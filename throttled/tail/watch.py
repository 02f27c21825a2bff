"""inotify on everything that decides what a path means, and on the files being followed.

Watched are all directories in which the kernel looks up a component of the path, symbolic
links followed, so that a file, a link, a directory or a parent of it may vanish, be replaced or
not be there yet. The deepest directory that exists is where a missing one is waited for. No
polling: what is added later raises an event. Owns the inotify instance and its watches.

Limits: the kernel announces no change by another machine on a network file system, and no mount
over a directory; a directory that may not be read cannot be watched.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inotify_simple import Event, INotify, flags, parse_events

from throttled.errors import SourceError
from throttled.linux.failures import unreadable

_LOOKUP = (
    flags.CREATE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.ATTRIB  # a file becomes readable
    | flags.MOVE_SELF
    | flags.DELETE_SELF
    | flags.ONLYDIR
)
_OVERFLOW = int(flags.Q_OVERFLOW)  # compared with each event: its enumeration takes 10 x as long
_MAX_LINKS = 40  # as in the kernel, see path_resolution(7)
#: Bytes of events that are read at once, and of the largest: inotify(7).
_EVENTS, _LARGEST = 65_536, 16 + 256
_TRIES = 10  # a path that keeps changing while it is looked at raises events anyway


def way(path: str) -> list[tuple[Path, str]]:
    """Return each (directory, name) that is looked up to open an absolute path.

    Symbolic links are followed; the list ends with what is not there, if anything is not.
    """
    steps = []
    here = Path("/")
    links = 0
    names = list(reversed(Path(path).parts))
    while names and links <= _MAX_LINKS:
        name = names.pop()
        if name == "/":
            here = Path("/")
        elif name == "..":
            here = here.parent
        else:
            steps.append((here, name))
            try:
                target = (here / name).readlink()
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it exists and is no link
                    break
                here /= name
            else:
                links += 1
                names += reversed(target.parts)
    return steps


class Watch:
    """Tells when a path may mean another file than before, and when followed files change.

    Args:
        path: absolute.

    Raises:
        SourceError: the kernel allows no more inotify instances.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._names: dict[int, set[str]] = {}  # watch descriptor of a directory: names in it
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            raise unreadable(self._path, error) from error

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to do."""
        fd: int = self._inotify.fileno()
        return fd

    def changed(self) -> bool:
        """Take in what happened; return whether the path has to be looked at again."""
        changed = False
        for event in self._events():
            if event.mask & _OVERFLOW:
                changed = True
            names = self._names.get(event.wd)
            if names is not None and (event.name in names or not event.name):
                changed = True
        return changed

    def _events(self) -> Iterator[Event]:
        """Yield what is in the queue."""
        full = True
        while full:
            try:
                data = os.read(self._inotify.fileno(), _EVENTS)
            except BlockingIOError:
                return
            yield from parse_events(data)
            full = len(data) > _EVENTS - _LARGEST

    def resolve(self) -> None:
        """Watch what decides about the path now, and nothing else of directories.

        Raises:
            SourceError: the kernel allows no more watches.
        """
        before: list[tuple[Path, str]] = []
        for _ in range(_TRIES):
            steps = way(self._path)
            if steps == before:
                break
            self._watch(steps)
            before = steps

    def follow(self, fd: int) -> int:
        """Watch an open file, whatever it is called now; return the watch descriptor.

        Raises:
            SourceError: the kernel allows no more watches.
        """
        try:
            return self._add(f"/proc/self/fd/{fd}", flags.MODIFY)
        except OSError as error:
            raise unreadable(self._path, error) from error

    def unwatch(self, watch: int) -> None:
        """Stop watching."""
        with suppress(OSError):  # the kernel did so already: the file or directory is gone
            self._inotify.rm_watch(watch)

    def close(self) -> None:
        """Give the descriptor back."""
        self._inotify.close()

    def _watch(self, steps: list[tuple[Path, str]]) -> None:
        before, self._names = self._names, {}
        refused = None
        for directory, name in steps:
            # Gone again, no directory, or not to be read: then its parent is what tells us.
            try:
                self._names.setdefault(self._add(directory, _LOOKUP), set()).add(name)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except SourceError as error:
                refused = error  # the others are watched
        for watch in before.keys() - self._names.keys():
            self.unwatch(watch)
        if refused:
            raise refused

    def _add(self, path: Path | str, mask: int) -> int:
        try:
            watch: int = self._inotify.add_watch(path, mask)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.ENOMEM}:
                raise unreadable(self._path, error) from error
            raise
        return watch
