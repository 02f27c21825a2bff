"""Unbans what became protected after it was throttled or banned.

The firewall lets a protected client through at once; without this, the store would still list it as
banned. Runs whenever the protection changed, and at start, in pieces between which the event loop
continues. It is deferred while the store fails or decisions are pending.

A client that only its host name protects is not found: entries have no names.

Owns the networks that are done, and those that are pending.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.decide.protect import Protection
from throttled.errors import StoreError
from throttled.model import Decision, Snapshot
from throttled.notify.journal import NOTICE

log = logging.getLogger("throttled")

#: Rows between two iterations of the event loop: some milliseconds.
_PIECE = 100
LIMIT = "protected"


class Protected:
    """Compares what is active with what is protected.

    Args:
        pipeline: its ladder knows what is protected, its store what is active.
        report: is given what was decided; called with the first decisions of each network only.
        clock: both clocks.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        report: Callable[[Sequence[Decision]], None],
        clock: Callable[[], Moment],
    ) -> None:
        self._pipeline = pipeline
        self._report = report
        self._clock = clock
        self._done: set[str] = set()
        self._pending: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def follow(self, protection: Protection) -> None:
        """Unban, soon, what the protection covers that was not covered before."""
        wanted = dict.fromkeys(protection.networks)
        self._done &= wanted.keys()
        self._pending = {network: None for network in wanted if network not in self._done}
        self.tick()

    def again(self) -> None:
        """Start again: it is another store."""
        self._pending = dict.fromkeys([*self._pending, *self._done])
        self._done = set()

    def tick(self) -> None:
        """Go on with what waits, if the store works."""
        pipeline = self._pipeline
        idle = self._task is None or self._task.done()
        if (
            self._pending
            and idle
            and pipeline.recorder.error is None
            and not pipeline.recorder.pending()
        ):
            self._task = asyncio.get_running_loop().create_task(self._work())

    def close(self) -> None:
        """Stop; the next start continues."""
        if self._task is not None:
            self._task.cancel()

    async def settled(self) -> bool:
        """Wait for what is under way; return whether nothing waits any more."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        return not self._pending

    async def _work(self) -> None:
        while self._pending:
            network = next(iter(self._pending))
            try:
                await self._unban(network)
            except StoreError as error:
                log.error(
                    "%s; entries of protected clients remain for now. %s", error.message, error.hint
                )
                return
            self._pending.pop(network, None)
            self._done.add(network)

    async def _unban(self, network: str) -> None:
        count = 0
        for rows in self._pipeline.recorder.store.listing.inside(
            network, self._clock().wall, _PIECE
        ):
            moment = self._clock()
            decisions = [d for row in rows if (d := self._decision(row, moment.wall)) is not None]
            if decisions:
                self._pipeline.decide(decisions, moment)
                if not count:
                    self._report(decisions)
                count += len(decisions)
            await asyncio.sleep(0)
        if count > 1:
            log.log(NOTICE, "unbanned %d protected clients in %s", count, network)

    def _decision(self, row: Snapshot, wall: float) -> Decision | None:
        reason = self._pipeline.ladder.protected(row.subject, row.limit)
        if not reason or row.action == "exempt":
            return None
        why = f"protected: {reason}"
        return Decision(
            wall, "release", row.subject, row.scope, LIMIT, 0, wall, why, origin=row.origin
        )
