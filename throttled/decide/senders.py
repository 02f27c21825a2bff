"""Counts what senders do and reports who crossed a limit. Pure: no clock, no I/O.

Senders are accounts, local users, inside hosts, domains and mailboxes: the limits whose `of` is
not "client". `step` takes an event about a message, `throttled.decide.queue` knows whose it is.
When all thresholds of a limit are exceeded, what follows depends on its `mode`: a report, made
again only after the limit's window or at twice the value; or, if what is decided has an effect
(`acting`), a crossing for the ladder to judge.

Owns the queue's table, the meters (at most `TRACKED` of each limit, the longest silent are
evicted), what is active, where the lines stand that counted, and what was counted for each day
until the store has it (`days`).
"""

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest

from msgspec.structs import replace

from throttled import subjects
from throttled.address import kind as kind_of
from throttled.decide.active import Active
from throttled.decide.gauge import SCOPE_OF, TRACKED, Gauge, SenderMeter
from throttled.decide.limits import NEVER
from throttled.decide.overrides import Overrides
from throttled.decide.queue import Queue
from throttled.decide.trace import Trace
from throttled.decide.uses import Use
from throttled.facts import Facts
from throttled.limits import Limit, Override
from throttled.model import (
    LINES,
    SCOPES,
    Action,
    Crossing,
    Decision,
    Event,
    Line,
    Report,
    Scope,
    SenderDay,
)
from throttled.settings import Policy

_DAY = 86400.0
#: Lines remembered for `explain`.
_TRACE = 1 << 16
#: What is stored of each day.
_STORED = frozenset(SenderDay.__struct_fields__)


class Senders:
    """The counting half of deciding, for senders."""

    def __init__(self, policy: Policy, facts: Facts) -> None:
        """Begin with nothing counted."""
        self.queue = Queue(facts)
        self._gauges: dict[tuple[str, str], list[Gauge]] = {}
        self._shares: dict[str, list[Gauge]] = {}
        self._reports: list[Report] = []
        self._pending: dict[tuple[str, str], Crossing] = {}  # by subject and limit
        #: Whether what is decided about a sender, or about a mailbox or domain that receives, has
        #: an effect: Postfix asks, or nothing has.
        self.acting = self.receiving = False
        self.active: dict[Scope, Active] = {scope: Active(TRACKED) for scope in SCOPES}
        self.trace = Trace(_TRACE, TRACKED)
        self._days: dict[tuple[str, int], SenderDay] = {}
        #: Each account's highest day of recipients; None: there is no day to compare with.
        self._highest: Mapping[str, int] | None = None
        self.dropped = 0  # days of senders, at the cap
        self.reconfigure(policy)

    def reconfigure(self, policy: Policy) -> None:
        """Take other limits; those that stay as they were keep their counts."""
        before = {gauge.name: gauge for gauge in self.gauges()}
        self._gauges, self._shares = {}, {}
        self._policy = policy
        self.enabled = policy.accounts.enabled
        self.queue.mailboxes.enabled = policy.acts(incoming=True)
        if not self.enabled:
            self.queue.clear()
            self.trace.clear()
            self._days, self._pending, self._reports = {}, {}, []
        for name, limit in policy.limits.items():
            if limit.of == "client" or not limit.enabled or not self.enabled:
                continue
            gauge = before.get(name)
            if gauge is None or gauge.limit != limit:
                gauge = Gauge(name, limit)
            gauge.own = self._overrides(limit)
            self._gauges.setdefault((limit.of, limit.count), []).append(gauge)
            if gauge.share:
                self._shares.setdefault(limit.of, []).append(gauge)
        #: Whether connections are counted too: those of inside hosts.
        self.connections = ("inside", "connections") in self._gauges

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self.queue.facts(facts)
        for gauge in self.gauges():
            gauge.own = self._overrides(gauge.limit)

    def learn(self, highest: Mapping[str, int], *, since: bool) -> None:
        """Learn the highest day of each sender so far.

        Args:
            highest: recipients, by subject.
            since: whether there is any earlier day at all.
        """
        self._highest = highest if since else None

    def step(
        self, event: Event, at: float, *, again: bool = False, source: int = 0, offset: int = -1
    ) -> None:
        """Take one event about a message, or a connection.

        Args:
            event: it.
            at: when, on the clock of the windows.
            again: it was counted before a restart: its day has it, and it was reported.
            source: number of the file, for `explain`.
            offset: where in it the line stands, in bytes; -1: nobody will ask.
        """
        if not self.enabled:
            return
        if event.kind == "connect":
            if self.queue.inside(event.client):
                self._count(Use(event.client, "connections", 1), at, event.time, again=again)
            return
        subject = ""
        for use in self.queue.step(event):
            if offset >= 0 and use.subject != subject:
                subject = use.subject
                self.trace.add(subject, at, source, offset)
            self._count(use, at, event.time, again=again)

    @property
    def crossed(self) -> bool:
        """Whether a limit was crossed since the last `drain` and `crossings`."""
        return bool(self._pending or self._reports)

    def drain(self) -> list[Report]:
        """Return the reports since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def crossings(self) -> list[Crossing]:
        """Return who crossed a limit that acts since the last call."""
        pending, self._pending = self._pending, {}
        return [replace(c, lines=self.lines(c.subject)) for c in pending.values()]

    def lines(self, subject: str) -> tuple[Line, ...]:
        """Return where the latest lines stand that counted for a sender."""
        return self.trace.lines(subject, LINES)

    def hold(self, decision: Decision, until: float, at: float) -> None:
        """Learn what is active against a sender; `until` and `at` on the clock of the windows."""
        domain = kind_of(decision.subject) == "domain"
        active = self.active[decision.scope if domain else _scope(decision.subject)]
        if decision.action == "ban":
            active.ban(decision.subject, until, at, enforced=False)
        elif decision.action == "throttle":
            active.throttle(decision.subject, until, at, 0.0)
        elif decision.action == "release":
            active.release(decision.subject)

    def reset(self, subject: str) -> None:
        """Reset what a sender did, and what was decided: an operator unbanned it."""
        for gauge in self.gauges():
            for table in gauge.tables():
                table.pop(subject)
            self._pending.pop((subject, gauge.name), None)
        for active in self.active.values():
            active.reset(subject, {gauge.name for gauge in self.gauges()})
        self.trace.reset(subject)

    def reset_all(self, scope: Scope | None = None) -> None:
        """Reset what senders did, and what was decided: an operator unbanned all of a scope."""
        for gauge in self.gauges():
            if scope in (None, gauge.scope):
                for table in gauge.tables():
                    table.clear()
        pending = self._pending.items()
        self._pending = {key: c for key, c in pending if scope not in (None, c.scope)}
        limits = {gauge.name for gauge in self.gauges()}
        for own, active in self.active.items():
            if scope in (None, own):
                for subject in active.subjects():
                    active.reset(subject, limits)
        if scope is None:
            self.trace.clear()

    def days(self) -> list[SenderDay]:
        """Return what was counted of each sender and day, and is not stored yet."""
        return list(self._days.values())

    def stored(self) -> None:
        """Learn that the store has what `days` returned."""
        self._days = {}

    def gauges(self) -> Iterable[Gauge]:
        """Return the limits that count."""
        return [gauge for group in self._gauges.values() for gauge in group]

    def gauges_of(self, subject: str) -> list[Gauge]:
        """Return the limits that count a sender."""
        kind = _kind(subject)
        return [gauge for gauge in self.gauges() if gauge.limit.of == kind]

    def meters(self, subject: str, at: float) -> list[SenderMeter]:
        """Return what the limits show of a sender."""
        return [self._meter(gauge, subject, at) for gauge in self.gauges_of(subject)]

    def worst(self, most: int, at: float) -> list[tuple[str, SenderMeter, Scope]]:
        """Return the senders of the latest lines that are nearest to a threshold, the worst first.

        The scope is that of decisions about them.
        """
        found = []
        for subject in self.trace.latest():
            meter = max(self.meters(subject, at), key=SenderMeter.share, default=None)
            if meter is not None and meter.value:
                found.append((subject, meter, meter.scope))
        return nlargest(most, found, key=lambda row: row[1].share())

    def _overrides(self, limit: Limit) -> Callable[[str], Override | None]:
        """Return what finds a limit's `for` entry by subject, however the operator wrote it."""
        if limit.of == "inside":
            return Overrides(limit.for_).of
        written = limit.for_.items()
        return {self.queue.counted(subjects.read(name)): own for name, own in written}.get

    def _meter(self, gauge: Gauge, subject: str, at: float) -> SenderMeter:
        value = gauge.value(subject, at)
        soft, hard = gauge.thresholds(subject)
        above = value > min(soft, hard) and self._exceeded(gauge, subject, value, at)
        threshold = soft if soft < NEVER else hard
        bans = hard < NEVER and self._policy.mode_of(gauge.name) == "enforce"
        return SenderMeter(
            gauge.name,
            gauge.limit.count,
            gauge.within,
            value,
            threshold if threshold < NEVER else 0,
            hard if bans else 0,
            above,
            gauge.scope,
            self._acting(gauge),
        )

    def _count(self, use: Use, at: float, wall: float, *, again: bool) -> None:
        kind = _kind(use.subject)
        if not again and use.counted in _STORED:
            self._add_day(use, wall)
        if use.counted == "recipients":
            for gauge in self._shares.get(kind, ()):
                gauge.whole.add(use.subject, at, use.amount)
        for gauge in self._gauges.get((kind, use.counted), ()):
            value = gauge.add(use, at)
            soft, hard = gauge.thresholds(use.subject)
            if value <= min(soft, hard) or not self._exceeded(gauge, use.subject, value, at):
                continue
            if self._acting(gauge) and self._policy.mode_of(gauge.name) != "report":
                if not again:
                    self._cross(gauge, use.subject, at, value, soft, hard)
            elif gauge.again(use.subject, value, at) and not again:
                self._report(gauge, use.subject, wall, value, min(soft, hard))

    def _acting(self, gauge: Gauge) -> bool:
        return self.receiving if gauge.limit.incoming else self.acting

    def _cross(  # noqa: PLR0913, PLR0917 - who crossed what
        self, gauge: Gauge, subject: str, at: float, value: int, soft: int, hard: int
    ) -> None:
        """Note a crossing, unless as much is active or was spared."""
        action: Action = "ban" if value > hard else "throttle"
        active = self.active[gauge.scope]
        known = active.get(subject)
        if known is not None:
            until = known.banned_until
            if action == "throttle":
                until = max(until, known.throttled_until)
            if at < until:
                return
        if not active.excuses(subject, gauge.name, action, value, at):
            threshold = hard if action == "ban" else soft
            what = gauge.name, action, value, threshold, gauge.within, gauge.limit.count
            self._pending[subject, gauge.name] = Crossing(subject, gauge.scope, *what)

    def _exceeded(self, gauge: Gauge, subject: str, value: int, at: float) -> bool:
        """Return whether a value is above the other thresholds of its limit too."""
        if 1000 * value <= gauge.share * gauge.whole.value(subject, at):
            return False
        usual = gauge.limit.usual
        if usual is None:
            return True
        return self._highest is not None and value > usual * self._highest.get(subject, 0)

    def _report(self, gauge: Gauge, subject: str, wall: float, value: int, threshold: int) -> None:
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
            if len(self._days) >= TRACKED:
                self.dropped += 1
                return
            day = self._days[key] = SenderDay(*key)
        counted = stored_as(use.subject, use.counted)
        setattr(day, counted, getattr(day, counted) + use.amount)


def stored_as(subject: str, counted: str) -> str:
    """Return in which field of `SenderDay` something that is counted is."""
    return counted if _kind(subject) != "mailbox" else "received"


def _kind(subject: str) -> str:
    """Return what a subject is; quicker than `subjects.of`, of subjects that are some."""
    found = kind_of(subject)
    return "inside" if found in ("address", "network") else found


def _scope(subject: str) -> Scope:
    """Return the scope that decisions about a sender carry; one of its own it has not."""
    return SCOPE_OF[_kind(subject)]
