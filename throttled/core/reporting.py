"""Who crossed a limit that only reports. Owns reports of clients that were not asked for yet."""

import logging
from collections.abc import Sequence
from typing import Literal

from throttled.clock import Moment
from throttled.core.guessing import reports as attacked
from throttled.core.recorder import Recorder
from throttled.decide.engine import Engine
from throttled.decide.ladder import Ladder
from throttled.decide.senders import Senders
from throttled.errors import StoreError
from throttled.model import Crossing, Report

log = logging.getLogger(__name__)


class Reports:
    """Makes reports of crossings, and records them."""

    def __init__(
        self, engine: Engine, senders: Senders, ladder: Ladder, recorder: Recorder
    ) -> None:
        """Have none yet.

        Args:
            engine: learns what was reported, and says which accounts are under attack.
            senders: have reports of their own.
            ladder: its policy says which limits only report, its protection of whom nothing is.
            recorder: has the store.
        """
        self._engine = engine
        self._senders = senders
        self._ladder = ladder
        self._recorder = recorder
        self._pending: list[Report] = []

    def __call__(self) -> list[Report]:
        """Return who crossed a limit that only reports since the last call, and record them."""
        allowed = self._ladder.protection.sender
        reports = [r for r in (*self._pending, *self._senders.drain()) if not allowed(r.subject)]
        self._pending = []
        if reports and self._recorder.error is None:
            try:
                self._recorder.store.senders.report(reports)
            except StoreError as error:
                log.warning("%d reports are not recorded: %s", len(reports), error.message)
        return reports

    def acting(self, crossings: Sequence[Crossing], now: Moment) -> Sequence[Crossing]:
        """Return the crossings of limits that act; of those that only report, note reports.

        The next report of a subject and limit is made after the limit's window, or at twice the
        value.
        """
        acting = []
        for c in crossings:
            if self._ladder.policy.mode_of(c.limit) != "report":
                acting.append(c)
                continue
            self._engine.excuse(c, 2 * c.value - 1, now.boot + c.within, now.boot)
            if not self._ladder.protection.reason(c.subject, c.name):
                above: Literal["soft", "hard"] = "hard" if c.action == "ban" else "soft"
                about = c.subject, c.limit, c.count, c.value, c.threshold, c.within
                self._pending.append(Report(now.wall, *about, c.subject, above))
        return acting

    def attacked(self, now: Moment) -> None:
        """Note reports of accounts that are guessed from many addresses."""
        targets, settings = self._engine.guessing.drain(), self._ladder.policy.guessing
        self._pending += attacked(targets, settings, self._recorder.store, now)
