"""Follows the logs: from a readable file to counted lines and decisions.

Owns the tails and how far each has been read. A log that cannot be read is logged once, shown in
`status`, and tried again every second (`throttled.tail.backoff` says when that is done); the others
continue. What raises here that no one foresaw is skipped (`throttled.skipped`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from msgspec import MsgspecError, Struct, field, msgpack
from msgspec.structs import replace

from throttled.clock import Moment, now
from throttled.core.counting import Unbanned
from throttled.core.pipeline import Pipeline
from throttled.errors import SourceError, StoreError
from throttled.log_paths import is_journal
from throttled.model import Decision, Report
from throttled.sources.matching import Patterns, claimed, renamed
from throttled.store.store import StoredPosition
from throttled.tail.backoff import Backoff
from throttled.tail.behind import before
from throttled.tail.file import FileTail
from throttled.tail.finding import distinct
from throttled.tail.journal import JournalTail
from throttled.tail.pattern import Match, is_pattern
from throttled.tail.position import Batch, Position, recognisable

log = logging.getLogger(__name__)

#: Read back at a start, to rebuild the counters: 20 seconds of the fastest log that Postfix writes,
#: hours of most others. Costs about a second, before the daemon reports that it is ready.
_BEHIND = 16 * 1024 * 1024
_FARTHEST = 1 << 63  # an offset that a file can have
#: Crossings without a decision of one batch that are logged one by one.
_LOGGED = 20
#: Seconds of silence after which a file that matches a pattern no more is not followed.
_SILENT = 60.0
#: Positions kept of files that are gone: years of dated names.
_GONE = 1_000
#: Seconds that must be between the two samples of a rate.
_GRAIN = 0.001


class Follower(Struct):
    """One tail, and its numbers for `status`."""

    path: str
    number: int
    tail: FileTail | JournalTail
    error: str = ""
    lines: int = 0
    rate: float = 0.0  # lines a second, over the last tick
    ticked: int = 0  # lines at the last tick
    #: Which file was read last, and whether its content tells it from others.
    identity: tuple[int, bool] = (0, False)
    behind: float = 0.0  # since when (boot clock) it has not been read to its end; 0: it has
    logged: str = ""  # the error that the journal names already
    opened: float = field(default_factory=time.time)

    paused: bool = False  # it is read when it is tried again, not when it is readable

    def errors(self) -> list[str]:
        """Return what cannot be read just now, of this log or of its earlier generations."""
        return list(filter(None, dict.fromkeys((self.error, self.tail.state().error))))

    def pause(self) -> None:
        """Do not read it at each iteration of the event loop: what raises leaves it readable."""
        if not self.paused:
            self.paused = asyncio.get_running_loop().remove_reader(self.tail.fileno())

    def resume(self, read: Callable[["Follower"], None]) -> None:
        """Read it again when it is readable."""
        if self.paused:
            self.paused = False
            asyncio.get_running_loop().add_reader(self.tail.fileno(), read, self)


class Logs:
    """All tails together."""

    def __init__(
        self,
        pipeline: Pipeline,
        report: Callable[[Sequence[Decision]], None],
        senders: Callable[[Sequence[Report]], None] = lambda _: None,
        behind: Callable[[Sequence[Decision]], None] = lambda _: None,
    ) -> None:
        """Follow nothing yet.

        Args:
            pipeline: where lines go.
            report: called with the decisions that lines led to.
            senders: called with the senders that crossed a limit.
            behind: called with what would be done about clients behind a proxy.
        """
        self._senders, self._behind = senders, behind
        self.followers: list[Follower] = []
        #: Logs that could not even be opened, and why.
        self.unopened: dict[str, str] = {}
        self._retries: dict[str, Backoff] = {}  # of opening these
        self._pipeline = pipeline
        self._report = report
        self._number = 0
        self._ticked = now().boot
        self._counted: set[str] = set()  # logs whose latest lines are in the meters
        self._named: list[str] = []
        self.patterns = Patterns(self._follow)

    def follow(self, paths: Sequence[str]) -> None:
        """Follow these logs, and no others.

        Args:
            paths: of files, with `*` for any that match, or of systemd's journal, see
                `throttled.log_paths`. Of two that are one file the first.
        """
        self._named = [path for path in paths if not is_pattern(path)]
        wanted = [path for path in paths if is_pattern(path)]
        self.patterns.follow(wanted, self._stored() if wanted else {}, now())
        self._follow()

    def _follow(self) -> None:
        """Follow what was named, and what the patterns mean now."""
        files = self.patterns.files()
        paths = distinct([*self._named, *files])
        gone = self._gone(paths)
        if gone:
            self.record()  # where another name of the file, or the same one later, continues
        for follower in gone:
            self._drop(follower)
        followed = {follower.path for follower in self.followers}
        self.unopened = {}
        for path in paths:
            if path in followed:
                continue
            if path in self._named:
                self._open(path)
            else:
                self._open_match(files[path], paths)
        if followed != {follower.path for follower in self.followers}:
            # Record at once where following began: the process can be killed at any time.
            self.record()
            self._prune()

    def _open_match(self, match: Match, paths: Sequence[str]) -> None:
        """Follow a file that a pattern means, unless the tail of another path reads it."""
        stored = self._stored()
        live = (follower.tail.position for follower in self.followers)
        known = {path: stored[path] for path in paths if path in stored}
        known |= {position.path: position for position in live if position is not None}
        fresh = self.patterns.fresh(match.path)
        if not claimed(match, known.values()):
            former = None if match.path in stored else renamed(match, stored.values())
            self._open(match.path, former, from_start=fresh)

    def _gone(self, paths: Collection[str]) -> list[Follower]:
        """Return who is to be followed no more: at none of some paths, and read to its end."""
        return [f for f in self.followers if f.path not in paths and not self._lingers(f)]

    def _lingers(self, follower: Follower) -> bool:
        """Return whether a file that a pattern meant is not read to its end, or not silent yet."""
        if not self.patterns.mean(follower.path):
            return False
        state = follower.tail.state()
        return bool(state.lag) or time.time() - max(state.last_line, follower.opened) <= _SILENT

    def _prune(self) -> None:
        """Remove positions of files that are gone, where there are very many."""
        known = {follower.path for follower in self.followers} | self.unopened.keys()
        mean = self.patterns.mean
        gone = [p for p in self._stored() if p not in known and mean(p) and not is_pattern(p)]
        if len(gone) > _GONE:
            with suppress(StoreError):  # tried again
                self._pipeline.recorder.store.positions.remove(gone)

    def _stored(self) -> dict[str, Position]:
        """Return how far each log was read, as recorded; none where that cannot be read."""
        with suppress(StoreError):  # reported when a log is opened
            rows = self._pipeline.recorder.store.positions.all().values()
            return {p.path: p for row in rows if (p := _decoded(row)) is not None}
        return {}

    def positions(self) -> list[StoredPosition]:
        """Return how far each log has been read."""
        found: list[StoredPosition] = []

        def add(follower: Follower) -> None:
            position = follower.tail.position
            if position is not None:
                found.append(StoredPosition(position.path, msgpack.encode(position)))

        self._pipeline.skipped.run("position", self.followers, add)
        patterns = self.patterns.positions(time.time())
        return found + [StoredPosition(p.path, msgpack.encode(p)) for p in patterns]

    def record(self) -> None:
        """Record how far each log has been read, and what came of it."""
        self._pipeline.recorder.record(now(), positions=self.positions())

    def tick(self, moment: Moment) -> None:
        """Work out lines per second since the last tick, and try again what could not be read."""
        passed = max(moment.boot - self._ticked, _GRAIN)
        self._ticked = moment.boot
        self.patterns.tick(moment)
        for follower in list(self.followers):
            follower.rate = (follower.lines - follower.ticked) / passed
            follower.ticked = follower.lines
            if follower.errors():
                self._read(follower)
        for path in [path for path in self.unopened if self._retries[path].due(moment.boot)]:
            self._open(path)
        if self._gone({*self._named, *self.patterns.files()}):
            self._follow()

    def close(self) -> None:
        """Read what is there, record how far that is, then follow nothing."""
        for follower in self.followers:
            self._read(follower, again=False)
        self.record()
        for follower in list(self.followers):
            self._drop(follower)

    def _drop(self, follower: Follower) -> None:
        asyncio.get_running_loop().remove_reader(follower.tail.fileno())
        follower.tail.close()
        self.followers.remove(follower)

    def _open(self, path: str, former: Position | None = None, *, from_start: bool = False) -> None:
        """Follow a log.

        Args:
            path: it.
            former: how far it was read under another name.
            from_start: without a position, begin at its start.
        """
        try:
            stored = self._pipeline.recorder.store.positions.all().get(path)
        except StoreError as error:
            log.error("%s; reading %s from its end. %s", error.message, path, error.hint)
            stored = None
        position = None if stored is None else _position(stored)
        if position is None and former is not None:
            position = replace(former, path=path)
        retry = self._retries.setdefault(path, Backoff())
        try:
            tail: FileTail | JournalTail
            if is_journal(path):
                tail = JournalTail(position, path=path)
            else:
                tail = FileTail(path, position, from_start=from_start)
        except SourceError as error:
            if error.message != retry.error:
                log.error("%s. %s", error.message, error.hint)
            retry.failed(now().boot, error.message)
            self.unopened[path] = error.message
            return
        except Exception as error:  # noqa: BLE001 - of the saved position, most likely
            self._pipeline.skipped.add("log", error, path)
            retry.failed(now().boot, f"cannot read {path}: unexpected {type(error).__name__}")
            self.unopened[path] = retry.error
            return
        retry.succeeded()
        self.unopened.pop(path, None)
        follower = Follower(path, self._number, tail)
        self._number += 1
        self.followers.append(follower)
        if is_journal(path):  # only this machine's is read
            self._pipeline.engine.hosts.local(follower.number)
        counted = {path, former.path if former else path} & self._counted
        if position is not None and not counted:
            self._rebuild(follower, position)
        self._counted.add(path)
        asyncio.get_running_loop().add_reader(tail.fileno(), self._read, follower)
        self._read(follower)

    def _rebuild(self, follower: Follower, position: Position) -> None:
        """Count again what was counted before the restart; what was decided then stays decided."""
        unbanned: Unbanned = {}
        with suppress(StoreError):  # reported when the next decision cannot be recorded
            unbanned = self._pipeline.recorder.store.unbans.since()
        try:
            share = _BEHIND // max(1, len(self.patterns.files()))
            for batch in before(position, share if self.patterns.mean(follower.path) else _BEHIND):
                self._count(follower, batch, unbanned)
        except (SourceError, OSError) as error:
            log.warning("%s: lines before the restart are not counted: %s", follower.path, error)
        except Exception as error:  # noqa: BLE001 - it may not end each start
            self._pipeline.skipped.add("log", error, follower.path)
        self._pipeline.engine.drain()

    def _read(self, follower: Follower, *, again: bool = True) -> None:
        """Take what a log has to say, a piece at a time so that others get their turn."""
        if follower not in self.followers:  # dropped before its next turn came
            return
        began = time.perf_counter()
        batch = self._next(follower)
        if batch is None or batch.done:
            follower.behind = 0.0
            if follower.logged and not follower.errors():
                follower.logged = ""
        elif not follower.behind:
            follower.behind = now().boot
        if batch is None:
            return
        try:
            self._process(follower, batch, began)
        except Exception as error:  # noqa: BLE001 - what comes after it is read
            self._pipeline.skipped.add("batch", error, follower.path)
        if again and not batch.done:
            asyncio.get_running_loop().call_soon(self._read, follower)

    def _next(self, follower: Follower) -> Batch | None:
        """Return what is new in a log; what is in the way is in its `error`."""
        message, batch = "", None
        try:
            batch = follower.tail.read()
        except SourceError as error:
            message = error.message
            if follower.logged != message:
                log.error("%s. %s", message, error.hint)
                follower.logged = message
        except Exception as error:  # noqa: BLE001 - the others are read
            self._pipeline.skipped.add("log", error, follower.path)
            message = f"cannot read {follower.path}: unexpected {type(error).__name__}"
            follower.error = message
            follower.pause()
            return None
        follower.error = message
        follower.resume(self._read)
        return batch

    def _process(self, follower: Follower, batch: Batch, began: float) -> None:
        """Count the lines of a batch, and decide."""
        self._count(follower, batch)
        follower.lines += len(batch.lines)
        decisions, spared = self._pipeline.settle(now(), self.positions(), began)
        identity = batch.inode, recognisable(batch.position.fingerprint)
        if identity != follower.identity:
            # Before the next tick the process can be killed, and the file renamed or compressed.
            follower.identity = identity
            self.record()
        self._report(decisions)
        if reports := self._pipeline.reports():
            self._senders(reports)
        if behind := self._pipeline.behind.drain():
            self._behind(behind)
        for crossing, why in spared[:_LOGGED]:
            log.info("no action against %s in %s: %s", crossing.subject, crossing.scope, why)

    def _count(self, follower: Follower, batch: Batch, unbanned: Unbanned | None = None) -> None:
        try:
            source = self._pipeline.recorder.store.positions.source(
                batch.path, batch.device, batch.inode, batch.mark
            )
        except StoreError:  # reported when the next decision cannot be recorded
            source = 0
        self._pipeline.counting.read(
            batch.lines, batch.offsets, now(), follower.number, source, unbanned=unbanned
        )


def _position(stored: StoredPosition) -> Position | None:
    position = _decoded(stored)
    if position is None:
        log.warning("%s: saved position is unreadable; starting at end of file", stored.path)
    return position


def _decoded(stored: StoredPosition) -> Position | None:
    """Return a position; None: written by another version, or altered."""
    try:
        position = msgpack.decode(stored.state, type=Position)
        if all(
            one.path == stored.path and 0 <= one.offset < _FARTHEST
            for one in (position, *position.older)
        ):
            return position
    except (MsgspecError, TypeError):
        pass
    return None
