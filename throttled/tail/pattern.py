"""Paths with `*`, and which files they mean now: logs of containers, dated names.

`*` stands for any characters but `/`, and at the start of a name for none that begin with a dot.
Left out are archives, rotated files of a log that matches too (its tail reads them), directories,
and all but one of the names of one file: a real file before a symbolic link, then by name. Of more
than `MAX_MATCHES` files those written last are used.

A directory's modification time shows cheaply whether to search again. Owns no state.

Limits: at most `MAX_NAMES` names are compared, and `MAX_WATCHED` directories checked for changes.
"""

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from msgspec import Struct

from throttled.tail.siblings import PACKED

MAX_NAMES = 100_000  # 0.3 s
MAX_MATCHES = 64
MAX_WATCHED = 1_000
#: Seconds within which a directory's time of change may stay the same though it changed again.
_GRAIN = 2.0
#: mail.log.1, mail.log-20261129, mail-20261129.log: see `throttled.tail.siblings`.
_ROTATED = re.compile(
    r"(?P<log>.+?)[.-]\d[\d._T-]*|(?P<stem>.+?)[.-]\d[\d._T-]*(?P<suffix>\.[^./]+)", re.DOTALL
)


class Match(Struct, frozen=True):
    """A file that a pattern means."""

    path: str
    device: int
    inode: int
    modified: float
    link: bool  # a symbolic link


class Scan(Struct, frozen=True):
    """What a pattern meant at one time."""

    files: tuple[Match, ...] = ()  # by path
    total: int = 0  # files to follow, were there no cap
    names: frozenset[str] = frozenset()  # the paths of all files that matched
    complete: bool = True  # False: there are more names than `MAX_NAMES`
    directories: tuple[tuple[str, int], ...] = ()  # and when they changed, ns
    settled: bool = True  # False: a directory changed so lately that it may have changed again

    def outdated(self) -> bool:
        """Return whether to search again."""
        return not self.settled or any(_changed(path) != at for path, at in self.directories)


def is_pattern(path: str) -> bool:
    """Return whether a path stands for any number of files."""
    return "*" in path


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is one that a pattern means, if the file is there."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(
        _expression(part).fullmatch(name) for part, name in zip(parts, names, strict=True)
    )


def expand(paths: Iterable[str]) -> list[str]:
    """Return paths with the files that match in place of each pattern."""
    found: list[str] = []
    for path in paths:
        found += [match.path for match in scan(path).files] if is_pattern(path) else [path]
    return found


def scan(pattern: str) -> Scan:
    """Find out which files a pattern means; blocks for as long as the file system takes."""
    began = time.time()
    names = _Names()
    found = [match for path in names.walk(pattern) if (match := _match(path))]
    directories = tuple(names.directories.items())
    logs = _logs(found)
    latest = max((at for _, at in directories), default=0) / 1e9
    return Scan(
        files=_latest(logs),
        total=len(logs),
        names=frozenset(match.path for match in found),
        complete=names.left > 0,
        directories=directories,
        settled=abs(began - latest) > _GRAIN,
    )


class _Names:
    """Walks along a pattern; owns which directories were looked at, and how many names may be."""

    def __init__(self) -> None:
        self.left = MAX_NAMES
        self.directories: dict[str, int] = {}

    def walk(self, pattern: str) -> Iterator[str]:
        """Yield paths that match, whatever they are."""
        return self._below("", pattern.split("/")[1:])

    def _below(self, path: str, parts: Sequence[str]) -> Iterator[str]:
        at = next((at for at, part in enumerate(parts) if "*" in part), len(parts))
        directory = "/".join([path, *parts[:at]])
        if at == len(parts):
            yield directory
            return
        for name in self._matching(directory or "/", _expression(parts[at])):
            yield from self._below(f"{directory}/{name}", parts[at + 1 :])

    def _matching(self, directory: str, wanted: re.Pattern[str]) -> list[str]:
        if len(self.directories) < MAX_WATCHED:
            self.directories[directory] = _changed(directory)
        try:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in islice(entries, self.left)]
        except OSError:  # not there, no directory, not for us: then nothing matches
            return []
        self.left = max(0, self.left - len(names) - 1)
        return [name for name in names if wanted.fullmatch(name)]


def _expression(name: str) -> re.Pattern[str]:
    """Return what a part of a pattern matches; re caches compiled ones."""
    text = "[^/]*".join(map(re.escape, name.split("*")))
    return re.compile(rf"(?!\.){text}" if name.startswith("*") else text, re.DOTALL)


def _changed(directory: str) -> int:
    try:
        return Path(directory).stat().st_mtime_ns
    except OSError:
        return -1


def _match(path: str) -> Match | None:
    try:
        link = Path(path).is_symlink()
        st = Path(path).stat()
    except (OSError, ValueError):
        return None
    return Match(path, st.st_dev, st.st_ino, st.st_mtime, link) if S_ISREG(st.st_mode) else None


def _logs(found: Collection[Match]) -> Collection[Match]:
    """Return the files that are logs, each by one name."""
    logs = {match.path for match in found if not match.link}
    first: dict[tuple[int, int], Match] = {}
    for match in sorted(found, key=lambda match: (match.link, match.path)):
        if not match.path.endswith(PACKED) and not _rotated(match.path, logs):
            first.setdefault((match.device, match.inode), match)
    return first.values()


def _latest(logs: Collection[Match]) -> tuple[Match, ...]:
    """Return those written last, by path."""
    latest = sorted(logs, key=lambda match: -match.modified)[:MAX_MATCHES]
    return tuple(sorted(latest, key=lambda match: match.path))


def _rotated(path: str, logs: Collection[str]) -> bool:
    """Return whether a file is named as a rotated one of a log: mail.log.1, mail-20261129.log."""
    match = _ROTATED.fullmatch(path)
    if match is None:
        return False
    log = match["log"] or f"{match['stem']}{match['suffix']}"
    return log in logs
