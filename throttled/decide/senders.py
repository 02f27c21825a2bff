"""Counts what senders do and reports who crossed a limit. Pure: no clock, no I/O.

Senders are accounts, local users, inside hosts, domains and mailboxes: the limits whose `of` is
not "client". `step` takes an event about a message, `throttled.decide.queue` knows whose it is. A
report is made when all thresholds of a limit are exceeded, and again only after the limit's window
or at twice the value.

Owns the queue's table, the meters (at most `_SENDERS` of each limit, the longest silent are
evicted) and what was counted for each day until the store has it (`days`).
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from throttled.address import kind as kind_of
from throttled.decide.queue import Queue, Use
from throttled.decide.tables import Counters, Distinct, Generations
from throttled.model import Event, Facts, Report, SenderDay
from throttled.settings import Limit, Policy

_SENDERS = 50_000
_DAY = 86400.0
#: Bytes are counted in these, rounded up: a meter ends at 8 million.
_KIB = 1024
_NEVER = 1 << 62
#: What is stored of each day.
_STORED = frozenset(SenderDay.__struct_fields__)


class _Gauge:
    """One limit with its meters."""

    def __init__(self, name: str, limit: Limit) -> None:
        self.name = name
        self.limit = limit
        self.within = float(limit.within)
        self.unit = _KIB if limit.count == "bytes" else 1
        self.share = float(limit.share.rstrip("%")) / 100 if limit.share else 0.0
        most = max([limit.soft or 0, *(o.soft or 0 for o in limit.for_.values())])
        self.names = Distinct(self.within, _SENDERS, 2 * most + 1)
        self.table = Counters(self.within, _SENDERS)
        self.whole = Counters(self.within, _SENDERS)  # recipients, for a share
        self.reported: Generations[str, tuple[float, int]] = Generations(self.within, _SENDERS)

    def threshold(self, subject: str) -> int:
        """Return above which value a subject is reported."""
        own = self.limit.for_.get(subject)
        if own is not None and not own.enabled:
            return _NEVER
        return (own.soft if own and own.soft else self.limit.soft) or _NEVER

    def add(self, use: Use, at: float) -> int:
        """Count, and return what there is within the window."""
        if use.counted == "networks":
            return self.names.add(use.subject, at, use.name)
        return self.table.add(use.subject, at, -(-use.amount // self.unit)) * self.unit

    def value(self, subject: str, at: float) -> int:
        """Return what there is within the window that ends at `at`."""
        if self.limit.count == "networks":
            return self.names.value(subject, at)
        return self.table.value(subject, at) * self.unit

    def again(self, subject: str, value: int, at: float) -> bool:
        """Tell whether a report is due, and remember that it was made."""
        known = self.reported.get(subject)
        if known is not None and at < known[0] and value < 2 * known[1]:
            return False
        self.reported.put(subject, (at + self.within, value), at)
        return True


class SenderMeter(Struct, frozen=True):
    """What a limit shows of a sender."""

    limit: str
    count: str
    within: float  # seconds
    value: int
    threshold: int


class Senders:
    """The counting half of deciding, for senders."""

    def __init__(self, policy: Policy, facts: Facts) -> None:
        """Begin with nothing counted."""
        self.queue = Queue(facts)
        self._gauges: dict[tuple[str, str], list[_Gauge]] = {}
        self._shares: dict[str, list[_Gauge]] = {}
        self._reports: list[Report] = []
        self._days: dict[tuple[str, int], SenderDay] = {}
        #: Each account's highest day of recipients; None: there is no day to compare with.
        self._highest: Mapping[str, int] | None = None
        self.dropped = 0  # days of senders, at the cap
        self.reconfigure(policy)

    def reconfigure(self, policy: Policy) -> None:
        """Take other limits; those that stay as they were keep their counts."""
        before = {gauge.name: gauge for gauge in self.gauges()}
        self._gauges, self._shares = {}, {}
        self.enabled = policy.accounts.enabled
        for name, limit in policy.limits.items():
            if limit.of == "client" or not limit.enabled or not self.enabled:
                continue
            gauge = before.get(name)
            if gauge is None or gauge.limit != limit:
                gauge = _Gauge(name, limit)
            self._gauges.setdefault((limit.of, limit.count), []).append(gauge)
            if gauge.share:
                self._shares.setdefault(limit.of, []).append(gauge)
        #: Whether connections are counted too: those of inside hosts.
        self.connections = ("inside", "connections") in self._gauges

    def learn(self, highest: Mapping[str, int], *, since: bool) -> None:
        """Learn the highest day of each sender so far.

        Args:
            highest: recipients, by subject.
            since: whether there is any earlier day at all.
        """
        self._highest = highest if since else None

    def step(self, event: Event, at: float, *, again: bool = False) -> None:
        """Take one event about a message, or a connection.

        Args:
            event: it.
            at: when, on the clock of the windows.
            again: it was counted before a restart: its day has it, and it was reported.
        """
        if not self.enabled:
            return
        if event.kind == "connect":
            if self.queue.inside(event.client):
                self._count(Use(event.client, "connections", 1), at, event.time, again=again)
            return
        for use in self.queue.step(event):
            self._count(use, at, event.time, again=again)

    def take(self) -> list[Report]:
        """Return the reports since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def days(self) -> list[SenderDay]:
        """Return what was counted of each sender and day, and is not stored yet."""
        return list(self._days.values())

    def stored(self) -> None:
        """Learn that the store has what `days` returned."""
        self._days = {}

    def gauges(self) -> Iterable[_Gauge]:
        """Return the limits that count."""
        return [gauge for group in self._gauges.values() for gauge in group]

    def meters(self, subject: str, at: float) -> list[SenderMeter]:
        """Return what the limits show of a sender."""
        kind = _kind(subject)
        return [
            SenderMeter(
                gauge.name,
                gauge.limit.count,
                gauge.within,
                gauge.value(subject, at),
                gauge.threshold(subject),
            )
            for gauge in self.gauges()
            if gauge.limit.of == kind
        ]

    def _count(self, use: Use, at: float, wall: float, *, again: bool) -> None:
        kind = _kind(use.subject)
        if not again and use.counted in _STORED:
            self._add_day(use, wall)
        if use.counted == "recipients":
            for gauge in self._shares.get(kind, ()):
                gauge.whole.add(use.subject, at, use.amount)
        for gauge in self._gauges.get((kind, use.counted), ()):
            value = gauge.add(use, at)
            threshold = gauge.threshold(use.subject)
            if value > threshold and self._exceeded(gauge, use.subject, value, at):
                due = gauge.again(use.subject, value, at)
                if due and not again:
                    self._report(gauge, use.subject, wall, value, threshold)

    def _exceeded(self, gauge: _Gauge, subject: str, value: int, at: float) -> bool:
        """Tell whether a value is above the other thresholds of its limit too."""
        if value <= gauge.share * gauge.whole.value(subject, at):
            return False
        usual = gauge.limit.usual
        if usual is None:
            return True
        return self._highest is not None and value > usual * self._highest.get(subject, 0)

    def _report(self, gauge: _Gauge, subject: str, wall: float, value: int, threshold: int) -> None:
        self._reports.append(
            Report(
                wall,
                subject,
                gauge.name,
                gauge.limit.count,
                value,
                threshold,
                gauge.within,
                self.queue.shown(subject),
            )
        )

    def _add_day(self, use: Use, wall: float) -> None:
        key = use.subject, int(wall // _DAY)
        day = self._days.get(key)
        if day is None:
            if len(self._days) >= _SENDERS:
                self.dropped += 1
                return
            day = self._days[key] = SenderDay(*key)
        setattr(day, use.counted, getattr(day, use.counted) + use.amount)


def _kind(subject: str) -> str:
    """Return what a subject is; quicker than `subjects.of`, of subjects that are some."""
    found = kind_of(subject)
    return "inside" if found in ("address", "network") else found
