"""The files that patterns in `[log] files` mean: which to follow now, and where to begin in each.

A pattern is looked at when a directory in it changed, and each minute; in a thread, as a directory
may have very many names. What it means at first is begun at its end; what comes later is new and
begun at its start. The position of a pattern says when it was followed last: what was written
since, and is not known, is new too. A file that is followed under another name, a renamed one, is
not followed again; one whose position is known under another name is read on there.

Owns the latest scan of each pattern, and which paths each has ever meant while it is followed.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.tail.pattern import Match, Scan, matches, scan
from throttled.tail.position import HEAD, Position, fits

#: Seconds: a file that appears is noticed and followed within them.
_LATE = 5
_AGAIN = 60.0  # seconds: which files were written last may have changed


class _Pattern(Struct):
    scan: Scan
    due: float  # boot clock
    known: set[str] = field(default_factory=set)  # paths that are not new any more
    fresh: set[str] = field(default_factory=set)  # paths that appeared while it was followed


class Patterns:
    """Which files the patterns mean."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Begin with none.

        Args:
            changed: called after each search.
        """
        self._patterns: dict[str, _Pattern] = {}
        self._changed = changed
        self._looking: asyncio.Future[dict[str, Scan]] | None = None

    def follow(
        self, patterns: Sequence[str], stored: Mapping[str, Position], moment: Moment
    ) -> None:
        """Follow these patterns, and no others.

        Args:
            patterns: paths with `*`.
            stored: positions, also of patterns.
            moment: now.
        """
        self._patterns = {
            pattern: self._patterns.get(pattern)
            or _begin(pattern, stored.get(pattern), moment.boot)
            for pattern in patterns
        }

    def files(self) -> dict[str, Match]:
        """Return the files to follow, by path."""
        return {m.path: m for pattern in self._patterns.values() for m in pattern.scan.files}

    def positions(self, wall: float) -> list[Position]:
        """Return positions which record that the patterns are followed since now (wall clock)."""
        return [Position(text, 0, 0, int(wall), b"") for text in self._patterns]

    def scans(self) -> Mapping[str, Scan]:
        """Return what each pattern meant at the latest check."""
        return {text: pattern.scan for text, pattern in self._patterns.items()}

    def mean(self, path: str) -> bool:
        """Return whether a path is one that a pattern means, whether or not it is there."""
        return any(matches(text, path) for text in self._patterns)

    def fresh(self, path: str) -> bool:
        """Return whether a file appeared while its pattern was followed, at the first question."""
        fresh = False
        for pattern in self._patterns.values():
            fresh |= path in pattern.fresh
            pattern.fresh.discard(path)
        return fresh

    def tick(self, moment: Moment) -> None:
        """Search again for files of the patterns that are due."""
        if self._looking is not None or not self._patterns:
            return
        due = [
            text
            for text, pattern in self._patterns.items()
            if moment.boot >= pattern.due or pattern.scan.outdated()
        ]
        if due:
            loop = asyncio.get_running_loop()
            self._looking = loop.run_in_executor(None, _scan, due)
            self._looking.add_done_callback(lambda done: self._looked(done, moment.boot))

    def _looked(self, done: "asyncio.Future[dict[str, Scan]]", at: float) -> None:
        """Use the result of a search."""
        self._looking = None
        if done.cancelled():
            return
        for text, found in done.result().items():
            pattern = self._patterns.get(text)
            if pattern is not None:
                pattern.fresh = (pattern.fresh | (found.names - pattern.known)) & found.names
                pattern.known = set(found.names)
                pattern.scan, pattern.due = found, at + _AGAIN
        self._changed()


def _begin(pattern: str, followed: Position | None, at: float) -> _Pattern:
    found = scan(pattern)
    since = math.inf if followed is None else followed.offset - _LATE
    fresh = {match.path for match in found.files if match.modified >= since}
    return _Pattern(found, at + _AGAIN, set(found.names), fresh)


def _scan(patterns: Sequence[str]) -> dict[str, Scan]:
    return {pattern: scan(pattern) for pattern in patterns}


def renamed(match: Match, stored: Iterable[Position]) -> Position | None:
    """Return how far a file was read under another name; None: it was not.

    Args:
        match: the file.
        stored: positions, of any path.
    """
    for position in stored:
        for one in (position, *position.older):
            if _same(one, match) and (
                not one.fingerprint or fits(one.fingerprint, _head(match.path))
            ):
                return replace(one, path=position.path, older=())
    return None


def claimed(match: Match, positions: Iterable[Position]) -> bool:
    """Return whether a file is one that the tail of another path reads: a renamed one.

    Args:
        match: the file.
        positions: of what is followed, or about to be.
    """
    others = [position for position in positions if position.path != match.path]
    return renamed(match, others) is not None


def _same(position: Position, match: Match) -> bool:
    return (position.device, position.inode) == (match.device, match.inode)


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as opened:
            return opened.read(HEAD)
    except OSError:
        return b""
