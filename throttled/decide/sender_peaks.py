"""The highest value of each sender within the window of each limit. Pure: no clock, no I/O.

Counts as `throttled.decide.senders` does, with every value within reach: what exceeds the limit's
share and multiple of the usual is recorded, whatever its thresholds are. Senders that have a `for`
entry of their own say nothing about the others and are left out.

Owns the peaks, at most 50,000 senders for each limit; later ones are left out.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from throttled.decide.gauge import Gauge
from throttled.decide.highest import Peaks
from throttled.decide.senders import Senders, stored_as
from throttled.decide.tables import Distinct
from throttled.decide.uses import Use
from throttled.facts import Facts
from throttled.limits import Limit
from throttled.model import Event
from throttled.settings import Policy

_CAP = 50_000
_NAMES = 256
_DAY = 86400.0


class WatchedSenders(Struct):
    """One limit of senders."""

    name: str
    limit: Limit
    senders: int  # seen, also those without a peak
    peaks: dict[str, int]
    missing: str = ""  # why nothing can be known of it


class SenderPeaks(Senders):
    """Counts what senders do, and knows, at the end, the peak of each."""

    def __init__(self, policy: Policy, facts: Facts) -> None:
        """Begin with nothing counted."""
        super().__init__(policy, facts)
        self._peaks: dict[str, Peaks] = {}
        self._known: dict[str, set[str]] = {}  # by limit
        self._best: dict[str, int] = {}  # recipients of the highest day
        self._day = 0
        self._configured = policy.limits
        for gauge in self.gauges():
            gauge.limit = replace(gauge.limit, soft=-1, hard=None)  # below every value
            gauge.names = Distinct(gauge.within, _CAP, _NAMES)
            self._peaks[gauge.name] = Peaks(_CAP)
            self._known[gauge.name] = set()

    def step(
        self, event: Event, at: float, *, again: bool = False, source: int = 0, offset: int = -1
    ) -> None:
        """Count one event, at its own time."""
        if int(event.time // _DAY) > self._day:
            self._day = int(event.time // _DAY)
            self._end_day([(day.subject, day.recipients) for day in self.days()])
            self.stored()
        super().step(event, at, again=again, source=source, offset=offset)

    def add_day(self, number: int, rows: Sequence[tuple[str, dict[str, int]]]) -> None:
        """Count a whole day that was stored, in limits within a day.

        Args:
            number: since the epoch; later than that of the call before.
            rows: of each sender what it did, by the names of `SenderDay`'s fields.
        """
        at = 2 * _DAY * number  # so far apart that no window has two
        for subject, did in rows:
            for gauge in self.gauges_of(subject):
                self._see(gauge, subject)
                if gauge.within != _DAY:
                    continue
                gauge.whole.add(subject, at, did["recipients"])
                value = did.get(stored_as(subject, gauge.limit.count), 0)
                self._exceeded(gauge, subject, value, at)
        self._end_day([(subject, did["recipients"]) for subject, did in rows])

    def watched(self, *, stored: bool = False) -> list[WatchedSenders]:
        """Return what the limits saw.

        Args:
            stored: of days that were stored.
        """
        return [
            WatchedSenders(
                gauge.name,
                self._configured[gauge.name],
                len(self._known[gauge.name]),
                self._peaks[gauge.name].highest,
                _missing(gauge) if stored else "",
            )
            for gauge in self.gauges()
        ]

    def _see(self, gauge: Gauge, subject: str) -> None:
        known = self._known[gauge.name]
        if len(known) < _CAP and gauge.own(subject) is None:
            known.add(subject)

    def _count(self, use: Use, at: float, wall: float, *, again: bool) -> None:
        for gauge in self.gauges_of(use.subject):
            self._see(gauge, use.subject)
        super()._count(use, at, wall, again=again)

    def _exceeded(self, gauge: Gauge, subject: str, value: int, at: float) -> bool:
        """Record a value that the other thresholds of its limit do not excuse."""
        if subject in self._known[gauge.name] and super()._exceeded(gauge, subject, value, at):
            self._peaks[gauge.name].add(subject, value)
        return False

    def _end_day(self, did: Sequence[tuple[str, int]]) -> None:
        """Learn the recipients of a day that ended."""
        best = self._best
        for subject, recipients in did:
            if subject in best or len(best) < _CAP:
                best[subject] = max(recipients, best.get(subject, 0))
        self.learn(best, since=bool(best))


def _missing(gauge: Gauge) -> str:
    count = gauge.limit.count
    if count in ("networks", "connections"):
        return f"the database has no {count} of senders"
    if gauge.within != _DAY:
        return "the database has whole days only"
    return ""
