"""The whole decision on old logs: what would have been done, with nothing touched.

The same pipeline as the daemon's, with a database in memory, no kernel, and the log's own time for
both clocks. What the daemon does at once is done here once per second of log time. Memory is flat
in the length of the logs, but for the subjects of the summary, which are capped: of the later ones
nothing is reported then. Owns the database and the counters of one run, and nothing beyond it.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from operator import length_hint
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, field

from throttled import address
from throttled.analysis.report import Overview, overview
from throttled.clock import Moment
from throttled.config.schema import Config
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts
from throttled.log_paths import is_journal
from throttled.model import Activity, Decision, Event, Evidence, Report
from throttled.parse.parser import Parser
from throttled.sources.history import in_order, reference, with_hosts
from throttled.sources.parsing import Parsed, parse
from throttled.store.database import Database
from throttled.store.hourly import HOUR
from throttled.store.store import Store, StoredPosition

#: Seconds of log time between two judgements, and between two checks at what expired.
_SLICE = 1.0
#: A line that is so much earlier than those before: their clock was wrong, or it is another log.
_BACK = 3600.0
_ENDED = 10.0
_PRUNE = 3600.0
_DAY = 86400.0
#: Subjects of each kind that the summary distinguishes.
_SUBJECTS = 1_000_000
_TOP = 20
_NOTHING = 0, 0
#: Bytes consumed of the file that is being read.
Progress = Callable[[str, int], None]


class LimitSummary(Struct):
    """How many distinct subjects a limit hit."""

    throttled: int = 0
    banned: int = 0
    reported: int = 0


class Banned(Struct):
    """A subject that would have been banned, and what good it did, whenever it did it."""

    subject: str
    bans: int
    last: float  # wall clock, of the latest ban
    limit: str  # of the latest ban
    deliveries: int = 0
    logins: int = 0


class Throttled(Struct):
    """A subject that would have been throttled and never banned, and what good it did."""

    subject: str
    throttles: int
    last: float  # wall clock, of the latest throttle
    limit: str  # of the latest throttle
    deliveries: int = 0
    logins: int = 0


_Row = TypeVar("_Row", Banned, Throttled)


class _Hits(Struct):
    """How often a subject was throttled, or banned."""

    times: int = 0
    last: float = 0.0  # wall clock, of the latest
    limit: str = ""  # of the latest


class Summary(Struct):
    """What a replay came to."""

    lines: int = 0
    events: dict[str, int] = field(default_factory=dict)
    first: float = 0.0  # wall clock
    last: float = 0.0
    limits: dict[str, LimitSummary] = field(default_factory=dict)
    top: list[Banned] = field(default_factory=list)  # the most often banned
    #: Hosts of the logs that have no line of this host: all count here, none in the daemon.
    others: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)  # because of unexpected errors, by kind
    #: Every client that delivered mail or logged in, and would have been banned.
    good_and_banned: list[Banned] = field(default_factory=list)
    throttled: list[Throttled] = field(default_factory=list)  # the most often throttled


class _Store(Store):
    """A store that remembers all good evidence; the database forgets it after 30 days."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.good: dict[str, tuple[int, int]] = {}  # (deliveries, logins)

    def record(
        self,
        now: float,
        decisions: Sequence[Decision],
        evidence: Sequence[Evidence] = (),
        positions: Sequence[StoredPosition] = (),
        activity: Mapping[Activity, int] = MappingProxyType({}),
    ) -> None:
        """Record, and remember."""
        good = self.good
        for one in evidence:
            deliveries, logins = good.get(one.subject, _NOTHING)
            if len(good) < _SUBJECTS or deliveries or logins:
                good[one.subject] = deliveries + one.deliveries, logins + one.logins
        super().record(now, decisions, evidence, positions, activity)


class Replay:
    """One run over some logs."""

    def __init__(self, config: Config, facts: Facts, zone: tzinfo) -> None:
        """Prepare.

        Args:
            config: the limits to try.
            facts: who is protected, which tag is which service, and what this host is called. As
                in the daemon other hosts' lines do not count; of a log that has no line of this
                host all count.
            zone: of log lines that name none.
        """
        self.summary = Summary()
        self._facts = facts
        self._zone = zone
        self._store = _Store.open(":memory:")
        weakref.finalize(self, self._store.close)
        policy = config.policy()
        self._pipeline = Pipeline(policy, facts, self._store, None, Parser(zone, 0.0))
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._bans: dict[str, _Hits] = {}
        self._throttles: dict[str, _Hits] = {}
        self._due = self._ended = self._pruned = 0.0
        self._day = 0  # since the epoch, of the latest line judged
        self._log = 0  # number of the one that is read

    def good(self) -> Mapping[str, tuple[int, int]]:
        """Return deliveries and logins of each client that had some, after `run`."""
        return self._store.good

    def banned(self) -> list[str]:
        """Return the subjects that would have been banned, after `run`."""
        return list(self._bans)

    def run(
        self, paths: Sequence[str], progress: Progress | None = None
    ) -> Iterator[Decision | Report]:
        """Yield decisions and reports in the order of the logs' time; then `summary` is complete.

        Args:
            paths: logs in any order; what each may be, see `throttled.sources.history.read`.
            progress: called with how much of which file has been read.

        Raises:
            SourceError: a log cannot be read.
        """
        for path in in_order(paths, self._zone):
            self._log += 1
            lines_of, others = with_hosts(path, self._facts, self._zone)
            if is_journal(path) or others:
                self._pipeline.engine.hosts.local(self._log)
            if others:
                self.summary.others[path] = others
            for parsed in parse(path, lines_of, Parser(self._zone, reference(path))):
                yield from self._read(parsed)
                if progress is not None:
                    progress(path, parsed.consumed)
        if self.summary.last:
            yield from self._settle(self.summary.last)
        self._summarise()

    def _read(self, parsed: Parsed) -> Iterator[Decision | Report]:
        events = parsed.events
        parsed.report(self._pipeline.skipped)
        pending = iter(events)
        while True:
            try:
                yield from self._count(pending)
                break
            except Exception as error:  # noqa: BLE001 - the events after it count
                event = events[len(events) - length_hint(pending) - 1]
                self._pipeline.skipped.add("event", error, event)
        self.summary.lines += parsed.lines
        for kind, count in parsed.kinds.items():
            self.summary.events[kind] = self.summary.events.get(kind, 0) + count

    def _count(self, pending: Iterator[Event]) -> Iterator[Decision | Report]:
        step = self._pipeline.engine.step
        summary = self.summary
        senders = self._pipeline.senders
        connections = senders.connections
        earliest, due, log = self._due - _BACK, self._due, self._log
        for event in pending:
            at = summary.last = event.time
            if not earliest <= at < due:
                yield from self._settle(at)
                earliest, due = self._due - _BACK, self._due
            step(event, at, log, 0, -1)  # what is not kept needs no lines to be found again
            about = event.message is not None or (connections and event.kind == "connect")
            if about and self._pipeline.engine.ours(event, log):
                senders.step(event, at)

    def _settle(self, at: float) -> Iterator[Decision | Report]:
        """Judge what was counted, as of then, not of the next line; do what is due up to `at`."""
        now = Moment(at, at)
        counted = min(at, self._due)
        decisions, _spared = self._pipeline.settle(Moment(counted, counted), ())
        self._due = at + _SLICE
        self.summary.first = self.summary.first or at
        yield from self._output(decisions)
        yield from self._reported()
        if int(at // _DAY) != self._day:
            self._begin_day(int(at // _DAY))
        if not 0 <= at - self._ended < _ENDED:
            yield from self._run_out(at)
        if not 0 <= at - self._pruned < _PRUNE:
            self._pipeline.recorder.record(now, positions=())
            self._store.prune(at)
            self._pruned = at

    def _reported(self) -> Iterator[Report]:
        for report in self._pipeline.reports():
            self._note(report.limit, "report", report.subject)
            yield report

    def _begin_day(self, day: int) -> None:
        """Let the limits of senders know what was usual up to a day (since the epoch)."""
        senders = self._pipeline.senders
        self._store.senders.add(senders.days())
        senders.stored()
        highest = self._store.senders.highest(day)
        senders.learn(highest, since=bool(highest))
        self._day = day

    def _note(self, limit: str, action: str, subject: str) -> None:
        """Count a subject that a limit hit, once."""
        subjects = self._seen.setdefault((limit, action), set())
        if len(subjects) < _SUBJECTS:
            subjects.add(subject)

    def _run_out(self, at: float) -> Iterator[Decision]:
        """Do what the daemon would have done when bans and throttles expired, up to a time."""
        for rows in self._store.active.ended(at):
            for row in rows:
                ended = self._pipeline.ladder.ended([row], row.until)
                self._pipeline.decide(ended, Moment(row.until, row.until))
                yield from self._output(ended)
        self._ended = at

    def _output(self, decisions: Sequence[Decision]) -> Iterator[Decision]:
        for decision in decisions:
            if decision.action != "release":
                self._note(decision.limit, decision.action, decision.subject)
            if decision.action == "ban":
                _count_hit(self._bans, decision)
            elif decision.action == "throttle":
                _count_hit(self._throttles, decision)
            yield decision

    def overview(self, host: str) -> Overview:
        """Return what happened in the logs, as `throttled report` does, once all were read."""
        summary = self.summary
        since = summary.first // HOUR * HOUR
        until = (summary.last // HOUR + 1) * HOUR
        return overview(self._store, since, until, host=host, would=True)

    def _summarise(self) -> None:
        summary = self.summary
        summary.skipped = self._pipeline.skipped_by_kind()
        for (limit, action), subjects in sorted(self._seen.items()):
            row = summary.limits.setdefault(limit, LimitSummary())
            if action == "ban":
                row.banned = len(subjects)
            elif action == "throttle":
                row.throttled = len(subjects)
            elif action == "report":
                row.reported = len(subjects)
        self._pipeline.recorder.record(
            Moment(summary.last, summary.last), positions=()
        )  # evidence that still waits
        self._store.senders.add(self._pipeline.senders.days())
        self._pipeline.senders.stored()
        only = [item for item in self._throttles.items() if item[0] not in self._bans]
        summary.throttled = self._rows(Throttled, only, _TOP)
        summary.top = self._rows(Banned, self._bans.items(), _TOP)
        summary.good_and_banned = self._rows(Banned, self._good_and_banned())

    def _good_and_banned(self) -> Iterator[tuple[str, _Hits]]:
        """Yield good clients that were banned, by their address or by their network."""
        for subject in self._store.good:
            hits = self._bans.get(subject) or self._bans.get(address.network_of(subject))
            if hits is not None:
                yield subject, hits

    def _rows(
        self, kind: type[_Row], items: Iterable[tuple[str, _Hits]], most: int | None = None
    ) -> list[_Row]:
        """Return subjects with the good that they did, the most often hit first."""
        good = self._store.good
        often = sorted(items, key=lambda item: (-item[1].times, item[0]))[:most]
        return [
            kind(subject, hits.times, hits.last, hits.limit, *good.get(subject, _NOTHING))
            for subject, hits in often
        ]


def _count_hit(table: dict[str, _Hits], decision: Decision) -> None:
    hits = table.get(decision.subject)
    if hits is None:
        if len(table) >= _SUBJECTS:
            return
        hits = table[decision.subject] = _Hits()
    hits.times += 1
    hits.last, hits.limit = decision.time, decision.limit
