"""Periodic work on the store: expired entries, a changed wall clock, pruning.

Expired entries, also those of the time without a daemon, are processed in pieces between which the
event loop continues. The store's expiry times are wall-clock times, the kernel's are not: when the
clock is set, the expiry of active entries is moved with it, after a stop too unless the machine was
booted. A daemon that is killed within the seconds that this takes for a million entries leaves the
rest unmoved.

Owns the last offset between the clocks, also in the store; the daemon runs one `run` at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from msgspec import MsgspecError, msgpack

from throttled.clock import Moment
from throttled.core.extended import claimed
from throttled.core.pipeline import Pipeline
from throttled.decide import client_peaks
from throttled.errors import BackendError, StoreError
from throttled.model import Decision, Snapshot
from throttled.notify.journal import SHOWN
from throttled.store.good import day_of
from throttled.store.store import Key, Shift

log = logging.getLogger(__name__)

_PRUNE = 3600.0
#: Seconds between writes of peaks into the store, and peaks per iteration of the event loop
#: (some milliseconds), and the maximum number of pieces; the rest waits for the next minute.
_PEAKS = 60.0
_PEAKS_PIECE = 200
_PEAKS_PIECES = 100
#: What senders did is added to their days once a minute.
_SENDERS = 60.0
#: Drops are counted once a minute.
_DROPS = 60.0
#: A clock that was set by more than this has jumped; it is slewed by less than 0.001 of a second.
_JUMP = 2.0
#: What the offset between the clocks may differ from the one recorded.
_SLEWED = 0.5
_CLOCK = "clock"
#: After a longer jump forwards nothing is deleted for as long: the clock may be wrong.
_LONG = 86400.0
#: Rows between two iterations of the event loop: some milliseconds.
_PIECE = 500

Ended = Callable[[Sequence[tuple[Snapshot, Decision]], int], None]


class Maintenance:
    """Maintains the store once a second."""

    def __init__(
        self, pipeline: Pipeline, clock: Callable[[], Moment], ended: Ended, booted: str = ""
    ) -> None:
        """Read the clocks.

        Args:
            pipeline: whose store it is.
            clock: returns both clocks.
            ended: called with what expired, each with the decision that follows: the first of
                them, and how many there are.
            booted: names the boot of the machine; "": it is not known whether the wall clock was
                set since another process ended.
        """
        self._ended = ended
        self.error: StoreError | None = None  # the store cannot be maintained
        self._pipeline = pipeline
        self._clock = clock
        moment = clock()
        self._booted = booted
        self._recorded = self._before()
        self._offset = moment.wall - moment.boot if self._recorded is None else self._recorded
        self._pruned = moment.boot
        self.moves = 0  # of the clock that the store's ends followed
        self._shift: Shift | None = None  # begun, and not yet done
        self._peaks_recorded = moment.boot
        self._senders_due = moment.boot
        self._emptied = False  # what senders did is deleted from the store: it is switched off
        self._learned = 0  # day since the epoch, when the highest days of senders were read
        self._counted = moment.boot - _DROPS

    def steady(self, moment: Moment) -> bool:
        """Return whether the wall clock was not set, so that the store's expiry times are right."""
        return abs(moment.wall - moment.boot - self._offset) < _JUMP

    async def run(self) -> None:
        """Do what is due, unless the store fails: what it says of ends may be out of date."""
        if self._pipeline.recorder.error is not None or self._pipeline.recorder.pending():
            return
        failed = None
        for step in (
            self.follow_clock,
            self._run_out,
            self._keep_peaks,
            self._keep_senders,
            self._count_drops,
            self._prune,
        ):
            try:
                await step()
            except StoreError as error:
                if self.error is None:
                    log.error("%s; expiry is deferred. %s", error.message, error.hint)
                failed = error
                break
            except Exception as error:  # noqa: BLE001 - the other steps continue
                self._pipeline.skipped.add("step", error, step.__name__)
        self.error = failed

    async def follow_clock(self) -> None:
        """Move the expiry of active entries with the wall clock, if that was set.

        Also if it was set since another process of the same boot of this machine ended.

        Raises:
            StoreError: the rest is moved the next time.
        """
        moment = self._clock()
        if self._shift is None:
            jump = moment.wall - moment.boot - self._offset
            if self.steady(moment):
                self._offset += jump
                self._record_offset(self._offset, moment)
                return
            self._record_offset(self._offset + jump, moment)  # nothing is ever moved twice
            self._shift = Shift(moment.wall - jump, jump)
        jump, moved = self._shift.seconds, 0
        for count in self._pipeline.recorder.store.active.shift(self._shift, _PIECE):
            moved += count
            await asyncio.sleep(0)
        self._shift = None
        self.moves += 1
        log.warning("wall clock changed by %+.0f s; moved the expiry of %d entries", jump, moved)
        self._offset += jump
        if jump > _LONG:
            self._pruned = moment.boot + _LONG

    def _before(self) -> float | None:
        """Return the offset between the clocks that was recorded in this boot of the machine."""
        with suppress(StoreError, MsgspecError):
            stored = self._pipeline.recorder.store.known.get(_CLOCK) or b""
            booted, offset = msgpack.decode(stored, type=tuple[str, float])
            if booted == self._booted:
                return offset
        return None

    def _record_offset(self, offset: float, moment: Moment) -> None:
        if self._booted and (self._recorded is None or abs(offset - self._recorded) >= _SLEWED):
            value = msgpack.encode((self._booted, offset))
            self._pipeline.recorder.store.known.put(_CLOCK, value, moment.wall)
            self._recorded = offset

    async def _run_out(self) -> None:
        first: list[tuple[Snapshot, Decision]] = []
        count = 0
        try:
            for rows in self._pipeline.recorder.store.active.ended(self._clock().wall, _PIECE):
                moment = self._clock()
                if not self.steady(moment):
                    return
                ended = self._decide(rows, moment)
                count += len(ended)
                first += ended[: SHOWN - len(first)]
                await asyncio.sleep(0)
        finally:
            if count:
                self._ended(first, count)

    def _decide(self, rows: Sequence[Snapshot], moment: Moment) -> list[tuple[Snapshot, Decision]]:
        """Decide what follows expired entries, and apply it."""
        pipeline = self._pipeline
        found: list[tuple[Snapshot, Decision]] = []

        def ended(some: Sequence[Snapshot]) -> list[tuple[Snapshot, Decision]]:
            return list(zip(some, pipeline.ladder.ended(some, moment.wall), strict=True))

        for pairs in pipeline.skipped.each("row", rows, ended):
            pipeline.decide([decision for _, decision in pairs], moment)
            found += pairs
        with suppress(StoreError):  # reported where it is recorded
            self._follow_lists([(row.subject, row.scope) for row, _ in found], moment)
        return found

    def _follow_lists(self, keys: Sequence[Key], moment: Moment) -> None:
        """Let what lists name be active where what was in its place expired."""
        pipeline, store = self._pipeline, self._pipeline.recorder.store
        named = list(store.claims.others("", keys, moment.wall))
        if named:  # of most there is nothing
            pasts = store.past(named, moment.wall)
            decisions = claimed(pipeline, pasts, moment.wall)
            pipeline.decide_peers(decisions, pasts, moment, None)

    async def _keep_peaks(self) -> None:
        if self._clock().boot - self._peaks_recorded < _PEAKS:
            return
        for _ in self.keep_peaks():
            await asyncio.sleep(0)
        self._peaks_recorded = self._clock().boot

    async def _keep_senders(self) -> None:
        """Add to the days of senders once a minute; once a day read the highest of each.

        Where counting senders is switched off, delete what was stored of them.
        """
        moment = self._clock()
        if moment.boot < self._senders_due:
            return
        self._senders_due = moment.boot + _SENDERS
        senders, store = self._pipeline.senders, self._pipeline.recorder.store
        if not senders.enabled:
            if not self._emptied:
                limits = self._pipeline.ladder.policy.limits
                store.senders.remove([n for n, limit in limits.items() if limit.of == "client"])
            self._emptied = True
            return
        self._emptied = False
        self.keep_days()
        today = day_of(moment.wall)
        if today != self._learned:
            self._learned = today
            highest = store.senders.highest(today)
            senders.learn(highest, since=bool(highest))

    def keep_days(self) -> None:
        """Add what senders did to their days.

        Raises:
            StoreError: it is added the next time.
        """
        senders = self._pipeline.senders
        if days := senders.days():
            self._pipeline.recorder.store.senders.add(days)
            senders.stored()

    def keep_peaks(self) -> Iterator[int]:
        """Record what peaks of clients, in pieces, and yield how many each had.

        Raises:
            StoreError: what is left is still in memory.
        """
        engine = self._pipeline.engine
        watched = client_peaks.watched(engine.gauges())
        for _ in range(_PEAKS_PIECES):
            peaks = client_peaks.noted(engine.gauges(), _PEAKS_PIECE)
            self._pipeline.recorder.store.peaks.write(peaks, watched, self._clock().wall)
            watched = []  # reported once is enough
            client_peaks.recorded(engine.gauges(), peaks)
            yield len(peaks)
            if len(peaks) < _PEAKS_PIECE:
                break

    async def _count_drops(self) -> None:
        moment, backend = self._clock(), self._pipeline.enforcer.backend
        if backend is None or moment.boot - self._counted < _DROPS:
            return
        self._counted = moment.boot
        with suppress(BackendError):  # reported by whoever repairs the table
            self._pipeline.recorder.store.hourly.count_drops(backend.dropped(), moment.wall)

    async def _prune(self) -> None:
        moment = self._clock()
        if moment.boot - self._pruned > _PRUNE and not self._pipeline.recorder.store.prune(
            moment.wall
        ):
            self._pruned = moment.boot
