"""One batch on its way: parse, count, judge, record, apply. The daemon and `replay` both use it.

Record, then apply: a decision is in the store before it is in the kernel. A store that fails stops
nothing: what could not be recorded waits here (at most `_WAITING` decisions, the oldest are let go)
and is recorded, a piece at a time, when the store works again: it is tried once a second. What the
kernel refused waits for `retry`, at most as many elements. A line, an event or a decision that
raises what no one foresaw is skipped (`throttled.skipped`), the others go on.

Owns the engine, the ladder and what waits. Blocks for as long as SQLite and the kernel take.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import length_hint
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from throttled import address
from throttled.clock import Moment
from throttled.core.pardons import Freed
from throttled.core.refused import Refused
from throttled.decide.engine import Engine
from throttled.decide.ladder import Ladder, Ruling
from throttled.decide.networks import exempt
from throttled.decide.protect import Protection
from throttled.enforce.backend import Backend
from throttled.errors import BackendError, StoreError, ThrottledError
from throttled.histogram import Histogram
from throttled.model import (
    ACTIONS,
    SCOPES,
    Action,
    Applied,
    Crossing,
    Decision,
    Entry,
    Event,
    Evidence,
    Facts,
    NetworkPast,
    Past,
    Scope,
)
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.skipped import Skipped
from throttled.store.store import Store, StoredPosition

log = logging.getLogger(__name__)

_WAITING = 100_000
#: Of what waits for the store so many go into one transaction: 0.1 s.
_PIECE = 5_000
#: A store that failed is not asked again for so many seconds: one that is locked costs 0.1 s.
_PATIENCE = 1.0
#: A crossing that led to less than it asked for is not judged again for so long, unless the value
#: of its limit is higher than what was excused.
_SPARED = 60.0
#: Good senders of a /24 or a /64 that get an entry of their own: the best of them. A /64 is mostly
#: one host, which could make any number of its addresses good before it attacks.
_SENDERS, _SENDERS_64 = 256, 16
#: Logs whose parsers are kept; they are numbered anew when they are opened anew.
_PARSERS = 100
#: RFC 3164 has whole seconds: a line that looks so much older than its arrival is not.
_GRAIN = 2.0
#: A line older than this was not written by a clock that can be compared with ours: one without a
#: year, of a clock that is ahead, is taken for last year's.
_PLAUSIBLE = 300 * 86400.0

Key = tuple[str, Scope]
Waiting = TypeVar("Waiting")
Forgotten = Mapping[str, Mapping[Scope, float]]


class Counts(Struct):
    """What went through, for `status`."""

    lines: int = 0
    lines_lost: int = 0
    errors: int = 0
    let_go: int = 0  # of what waited for the store or the kernel, as there was too much
    events: dict[str, int] = {}
    decisions: dict[str, dict[str, int]] = {}  # by limit and action
    #: From a batch of lines read to its decisions recorded, and to their being in force.
    decided: Histogram = field(default_factory=Histogram)
    enforced: Histogram = field(default_factory=Histogram)


class Pipeline:
    """The way of the data from lines to the kernel."""

    def __init__(
        self,
        policy: Policy,
        facts: Facts,
        store: Store,
        backend: Backend | None,
        parser: Parser,
    ) -> None:
        """Wire the rooms.

        Args:
            policy: what the operator wants.
            facts: what is so on this host.
            store: where decisions are recorded.
            backend: where they are applied; None in a replay.
            parser: its zone and reference are the log's.
        """
        self.store = store
        self.backend = backend
        self.parser = parser
        self.skipped = Skipped()
        self._parsers: dict[int, Parser] = {}
        #: Tells how far the logs have been read. Recorded with everything else: what is recorded
        #: apart from the lines it came of is counted twice after a kill.
        self.positions: Callable[[], Sequence[StoredPosition]] = tuple
        self.counts = Counts()
        self.engine = Engine(policy, facts, noting=backend is not None)
        self.ladder = Ladder(policy, Protection.of(facts, policy.protect))
        self.store_fault: StoreError | None = None  # it cannot be written
        self.history_fault: StoreError | None = None  # it cannot be read
        self.backend_fault: BackendError | None = None
        self.freed = Freed()
        #: What the kernel has no room for.
        self.refused = Refused()
        self._unrecorded: list[Decision] = []
        self._evidence: list[Evidence] = []
        self._asked = 0.0  # boot clock, when the store failed last
        #: Elements by what they are for, and when (boot clock) they had their seconds to go.
        self._unapplied: dict[tuple[str, Scope, Action], tuple[Entry, float]] = {}
        self._full = False  # at the latest batch

    def reconfigure(self, policy: Policy, protection: Protection) -> None:
        """Take another policy and protection; what was counted stays."""
        self.engine.reconfigure(policy, names=protection.by_name)
        self.ladder.policy = policy
        self.ladder.protection = protection

    def change_store(self, store: Store, now: Moment, decisions: Sequence[Decision]) -> None:
        """Remember in another store from now on.

        Args:
            store: it.
            now: both clocks.
            decisions: what is in force and that store does not know; of these, and of what the
                one before could not record, it is told a piece at a time.
        """
        self.store = store
        self.store_fault = self.history_fault = None
        self.engine.forget_lines()  # a store has its own numbers for log files
        self._unrecorded[:0] = decisions
        self.record(now)

    def free(
        self, subject: str, scope: Scope | None, now: Moment, exempt_until: float = 0.0
    ) -> int:
        """Forget what a subject did and what was decided; what the kernel holds is not touched.

        Args:
            subject: whom; "" = everybody.
            scope: where; None = everywhere.
            now: both clocks.
            exempt_until: see `Store.forget`.

        Returns:
            How many rows were in force.

        Raises:
            StoreError: the store could not be told; it is as soon as it works, see `freed`.
        """
        scopes = SCOPES if scope is None else (scope,)
        self._unrecorded = [
            d for d in self._unrecorded if d.scope not in scopes or subject not in ("", d.subject)
        ]
        if subject:
            self.engine.forget(subject, scope)
        else:
            self.engine.forget_all(scope)
        try:
            if subject:
                return len(self.store.forget(subject, scope, now.wall, exempt_until))
            return self.store.clear(now.wall, scope)
        except StoreError:
            self.freed.add([(subject, one) for one in scopes], now.wall, exempt_until)
            raise

    def unapplied(self) -> int:
        """Return how many elements wait for the kernel to take them."""
        return len(self._unapplied)

    def unrecorded(self) -> int:
        """Return how many decisions wait for the store to take them."""
        return len(self._unrecorded)

    def skipped_by_kind(self) -> dict[str, int]:
        """Return how many things were skipped because of unexpected errors, rows included."""
        found = dict(self.skipped.counts)
        for kind, count in self.store.skipped.counts.items():
            found[kind] = found.get(kind, 0) + count
        return found

    # Counting

    def read(  # noqa: PLR0913 - lines, where they stand, and when they came
        self,
        lines: Sequence[str],
        offsets: Sequence[int],
        now: Moment,
        log_number: int = 0,
        source: int = 0,
        *,
        forgotten: Forgotten | None = None,
    ) -> None:
        """Parse and count lines that just arrived.

        A line's own time counts where it is plausible, so that a log that stalled and then came
        at once is no burst; a line is never later than its arrival.

        Args:
            lines: as they were logged.
            offsets: where each stands.
            now: both clocks.
            log_number: of the log.
            source: of the file.
            forgotten: when the lines are counted again after a restart: from when on subjects
                count, see `Store.forgotten`.
        """
        self.engine.now = now.boot
        pending = iter(lines)
        places = zip(pending, offsets, strict=True)
        parse = self._parser_of(log_number).event
        step = self.engine.step if forgotten is None else self._forgetting(forgotten)
        while True:
            try:
                self._read(
                    places, parse, step, now, (log_number, source), again=forgotten is not None
                )
                break
            except Exception as error:  # noqa: BLE001 - of the next lines nothing may be lost
                self.skipped.add("line", error, lines[len(lines) - length_hint(pending) - 1])
        self.counts.lines += len(lines)

    def _read(  # noqa: PLR0913 - see `read`
        self,
        places: Iterator[tuple[str, int]],
        parse: Callable[[str, float], Event | None],
        step: Callable[[Event, float, int, int, int], None],
        now: Moment,
        origin: tuple[int, int],
        *,
        again: bool,
    ) -> None:
        """Count what is left of some lines; what it raises is of the line taken last."""
        log_number, source = origin
        events = self.counts.events
        wall, boot = now.wall, now.boot
        for line, offset in places:
            event = parse(line, wall)
            if event is None:
                continue
            kind = event.kind
            events[kind] = events.get(kind, 0) + 1
            age = wall - event.time
            if _GRAIN < age < _PLAUSIBLE:
                at = boot - age
            elif age > _GRAIN and again:
                continue  # when that was nobody knows, but it was not now
            else:
                at = boot
            step(event, at, log_number, source, offset)
            if kind == "lines_lost":
                self.counts.lines_lost += event.count

    def _parser_of(self, log_number: int) -> Parser:
        """Return the parser of a log: what a line says may depend on the one before."""
        parser = self._parsers.get(log_number)
        if parser is None:
            if len(self._parsers) >= _PARSERS:
                self._parsers.clear()
            parser = self._parsers[log_number] = self.parser.another()
        return parser

    def _forgetting(self, forgotten: Forgotten) -> Callable[[Event, float, int, int, int], None]:
        """Return a step that forgets again what an operator made us forget."""
        everybody = forgotten.get("", {})

        def step(event: Event, at: float, log_number: int, source: int, offset: int) -> None:
            self.engine.step(event, at, log_number, source, offset)
            # Peaks count nothing, and may be of a network; events of the server have no client.
            if event.kind == "peak" or not event.client:
                return
            # A client's network has meters too, and is forgotten by itself.
            for subject in (event.client, address.network_of(event.client)):
                for since in (everybody, forgotten.get(subject, {})):
                    for scope, moment in since.items():
                        if event.time <= moment:
                            self.engine.forget(subject, scope)

        return step

    # Deciding

    def settle(
        self, now: Moment, began: float | None = None
    ) -> tuple[list[Decision], list[tuple[Crossing, str]]]:
        """Judge what was counted since the last call, record it and put it in force.

        Args:
            now: both clocks.
            began: `time.perf_counter()` when the lines were read; None = not timed.

        Returns:
            The decisions taken, and the crossings that were spared with the reason.
        """
        outcome = self.engine.take()
        self._evidence += outcome.evidence
        newcomers = self._newcomers(outcome.evidence, now)
        if not outcome.crossings:
            if newcomers:
                self.decide(newcomers, now, began=began)
            return newcomers, []
        decisions = list(newcomers)
        spared: list[tuple[Crossing, str]] = []
        renewed: list[Key] = []
        judge = partial(self._judge, now=now)
        for ruling, pasts, networks in self.skipped.each("decision", outcome.crossings, judge):
            self._hold(outcome.crossings, pasts, networks, now)
            for crossing, value in ruling.excused:
                self.engine.excuse(crossing, value, now.boot + _SPARED, now.boot)
            # The kernel is to know the good senders of a network before it knows the network.
            decisions += [*self._exempt(ruling.decisions, now), *ruling.decisions]
            spared += ruling.spared
            renewed += _in_force(pasts, networks, now.wall)
        self.decide(decisions, now, renewed=renewed, began=began)
        return decisions, spared

    def _judge(
        self, crossings: Sequence[Crossing], now: Moment
    ) -> tuple[Ruling, Mapping[Key, Past], Mapping[Key, NetworkPast]]:
        """Judge crossings by their history; one whose history cannot be used without it."""
        try:
            pasts, networks = self._pasts(crossings, now)
            ruling = self.ladder.judge(crossings, pasts, networks, now.wall)
            _in_force(pasts, networks, now.wall)  # can be compared
        except Exception as error:  # a row that somebody altered
            if len(crossings) > 1:
                raise
            self.skipped.add("row", error, crossings[0].subject)
            return self.ladder.judge(crossings, {}, {}, now.wall), {}, {}
        return ruling, pasts, networks

    def _hold(
        self,
        crossings: Sequence[Crossing],
        pasts: Mapping[Key, Past],
        networks: Mapping[Key, NetworkPast],
        now: Moment,
    ) -> None:
        """Let the engine know what is in force already: after a restart it does not."""
        enforced = self._enforcing()

        def hold(key: Key) -> None:
            past = pasts.get(key) or networks.get(key)
            if past is not None and past.action is not None and past.until > now.wall:
                until = now.boot + past.until - now.wall
                banned = enforced and past.action == "ban"
                self.engine.hold(
                    *key, past.action, until, now.boot, enforced=banned, rate=past.rate
                )

        self.skipped.run("row", {(c.subject, c.scope) for c in crossings}, hold)

    def _exempt(self, decisions: Sequence[Decision], now: Moment) -> list[Decision]:
        """Return entries of their own for the good senders of networks that are about to be hit."""
        return [
            entry
            for d in decisions
            if address.is_network(d.subject)
            for entry in self._entries_in(d.subject, d.scope, d.until, now)
        ]

    def _newcomers(self, evidence: Sequence[Evidence], now: Moment) -> list[Decision]:
        """Return the same for who turned out good in a network that is in force."""
        found: list[Decision] = []
        for e in evidence:
            network = address.network_of(e.subject)
            for scope in SCOPES:
                until = self.engine.in_force(network, scope, now.boot) if network else 0.0
                if until:
                    until += now.wall - now.boot
                    found += self._entries_in(network, scope, until, now, e.subject)
        return found

    def _entries_in(
        self, network: str, scope: Scope, until: float, now: Moment, only: str = ""
    ) -> list[Decision]:
        evidence = [e for e in self._evidence if address.network_of(e.subject) == network]
        most = _SENDERS_64 if ":" in network else _SENDERS
        try:
            senders = self.store.senders(
                network, scope, until, now.wall, most, evidence=evidence, only=only
            )
        except StoreError as error:
            log.warning("good senders in %s get no entry of their own: %s", network, error.message)
            return []
        except Exception as error:  # noqa: BLE001 - the decision on the network stands
            self.skipped.add("row", error, network)
            return []
        return exempt(network, scope, senders, until, now.wall)

    def decide(
        self,
        decisions: Sequence[Decision],
        now: Moment,
        renewed: Iterable[Key] = (),
        began: float | None = None,
    ) -> None:
        """Record decisions, then put them in force.

        Args:
            decisions: what was decided, by whomever.
            now: both clocks.
            renewed: subjects that the kernel holds already: their counters are read before they
                are renewed, as renewing sets them to zero.
            began: `time.perf_counter()` when what led to them arrived; None = not timed.
        """
        self.record(now, decisions)
        if began is not None and decisions:
            self.counts.decided.add(time.perf_counter() - began, len(decisions))
        known = set(renewed)
        self._keep_counters(decisions, known)
        valid = self._without_refused(decisions, now)
        self.apply([entry for d in valid for entry in _entries(d, now.wall, known)], now)
        if began is not None and decisions:
            self.counts.enforced.add(time.perf_counter() - began, len(decisions))
        enforced = self._enforcing()

        def hold(d: Decision) -> None:
            by_action = self.counts.decisions.setdefault(d.limit, {})
            by_action[d.action] = by_action.get(d.action, 0) + 1
            until = now.boot + d.until - now.wall
            if d.action == "release":
                self.engine.release(d.subject, d.scope)
            elif d.action != "exempt":
                self.engine.hold(
                    d.subject, d.scope, d.action, until, now.boot, enforced=enforced, rate=d.rate
                )

        self.skipped.run("decision", decisions, hold)

    def _without_refused(self, decisions: Sequence[Decision], now: Moment) -> Sequence[Decision]:
        """Leave out exemptions that the store did not take: a throttle or a ban is in force."""
        keys = [(d.subject, d.scope) for d in decisions if d.action == "exempt"]
        if not keys:
            return decisions
        try:
            pasts = self.store.past(keys, now.wall)
        except StoreError:  # told when it was recorded
            return decisions
        refused = {key for key, past in pasts.items() if past.action in ("throttle", "ban")}
        refused -= {key for key in keys if self.freed.holds(*key)}
        return [d for d in decisions if d.action != "exempt" or (d.subject, d.scope) not in refused]

    def _enforcing(self) -> bool:
        """Tell whether what is decided is in a kernel."""
        backend = self.backend
        return backend is not None and backend.name != "dryrun" and self.backend_fault is None

    def record(self, now: Moment, decisions: Sequence[Decision] = ()) -> None:
        """Record decisions, evidence and positions in one transaction, or remember them.

        Where a store that failed works again, each call records a piece of what waits; positions
        come with the last of it, so that no line is taken as dealt with whose decision waits.
        """
        waited = bool(self._unrecorded)
        self._unrecorded = self._latest([*self._unrecorded, *decisions])
        self._evidence = self._latest(self._evidence)
        if self.store_fault is not None and 0 <= now.boot - self._asked < _PATIENCE:
            return
        # New decisions go together, however many: they are recorded before they are applied.
        piece = self._unrecorded[: _PIECE if waited else None]
        evidence = self._evidence[:_PIECE]
        all_of_it = len(piece) == len(self._unrecorded) and len(evidence) == len(self._evidence)
        try:
            self.freed.tell(self.store)
            self._write(now.wall, piece, evidence, self._positions() if all_of_it else ())
        except StoreError as error:
            if self.store_fault is None:
                log.error("%s; deciding goes on, recording waits. %s", error.message, error.hint)
            self.store_fault = error
            self._asked = now.boot
            self.counts.errors += 1
            return
        if self.store_fault is not None:
            log.warning("the store works again; %d decisions waited", len(self._unrecorded))
            self.store_fault = None
        del self._unrecorded[: len(piece)], self._evidence[: len(evidence)]

    def _write(
        self,
        wall: float,
        decisions: Sequence[Decision],
        evidence: Sequence[Evidence],
        positions: Sequence[StoredPosition],
    ) -> None:
        """Record in one transaction; if anything in it cannot be recorded, the others in several.

        Raises:
            StoreError: the store fails.
        """
        record = self.store.record
        try:
            record(wall, decisions, evidence, positions)
        except ThrottledError:
            raise
        except Exception:  # noqa: BLE001 - counted where it is found
            self.skipped.each("decision", decisions, lambda some: record(wall, some))
            self.skipped.each("evidence", evidence, lambda some: record(wall, (), some))
            self.skipped.each("position", positions, lambda some: record(wall, (), (), some))

    def _positions(self) -> Sequence[StoredPosition]:
        try:
            return self.positions()
        except Exception as error:  # noqa: BLE001 - it is recorded later
            self.skipped.add("position", error)
            return ()

    def _latest(self, waiting: list[Waiting]) -> list[Waiting]:
        self.counts.let_go += max(0, len(waiting) - _WAITING)
        return waiting[-_WAITING:]

    def apply(self, entries: Sequence[Entry], now: Moment) -> None:
        """Put entries in force; what the kernel refuses waits for `retry`.

        Args:
            entries: elements with the seconds that they have left now.
            now: both clocks.
        """
        if self.backend is None or not entries:
            return
        try:
            outcomes = self.skipped.each("element", entries, self.backend.apply)
        except BackendError as error:
            if self.backend_fault is None:
                log.error("%s. %s", error.message, error.hint)
            self.backend_fault = error
            self.counts.errors += 1
            for entry in entries:
                self._waits_no_more(entry)
                self._unapplied[entry.subject, entry.scope, entry.action] = entry, now.boot
            too_many = list(islice(self._unapplied, max(0, len(self._unapplied) - _WAITING)))
            self.counts.let_go += len(too_many)
            for key in too_many:
                del self._unapplied[key]
            return
        if self._unapplied:  # what is decided later holds
            for entry in entries:
                self._waits_no_more(entry)
        failed = tuple(each for applied in outcomes for each in applied.failed)
        full = frozenset(name for applied in outcomes for name in applied.full)
        self.refused.note(entries, Applied(failed, full), now.boot)
        if not (full and self._full):  # once, not with each batch
            for entry, why in failed[:10]:
                log.error("%s %s in %s failed: %s", entry.action, entry.subject, entry.scope, why)
        self._full = bool(full)
        self.counts.errors += len(failed)

    def _waits_no_more(self, entry: Entry) -> None:
        self._unapplied.pop((entry.subject, entry.scope, entry.action), None)

    def retry(self, repair: Callable[[], object], now: Moment) -> None:
        """Try again what a store or a kernel refused.

        Args:
            repair: puts the backend's table in place again.
            now: both clocks.
        """
        if self.store_fault is not None or self._unrecorded:
            self.record(now)
        if self.backend_fault is not None:
            try:
                repair()
            except BackendError as error:
                self.backend_fault = error
                return
            waiting, self._unapplied, self.backend_fault = self._unapplied, {}, None
            left = (_later(entry, now.boot - since) for entry, since in waiting.values())
            self.apply([entry for entry in left if entry is not None], now)

    def flush(self, setup: Callable[[], object], now: Moment) -> None:
        """Remove all elements at once: make the backend's table anew, with what is still active.

        Args:
            setup: puts it in place, empty.
            now: both clocks.
        """
        if self.backend is None:
            return
        self._unapplied = {}
        self.refused.clear()
        try:
            self.backend.teardown()
            setup()
            for entries in self.store.active(now.wall):  # exemptions
                self.apply(self.freed.others(entries), now)
        except StoreError as error:
            log.error("%s; exemptions are restored later. %s", error.message, error.hint)
        except BackendError as error:
            log.error("%s. %s", error.message, error.hint)
            self.backend_fault = error
            self.counts.errors += 1

    def _pasts(
        self, crossings: Sequence[Crossing], now: Moment
    ) -> tuple[Mapping[Key, Past], Mapping[Key, NetworkPast]]:
        crossed = [(crossing.subject, crossing.scope) for crossing in crossings]
        keys = [key for key in crossed if not address.is_network(key[0])]
        networks = {
            (network, scope) for subject, scope in keys if (network := address.network_of(subject))
        }
        networks.update(key for key in crossed if address.is_network(key[0]))
        # What was done in this very batch speaks for a client too; recorded it is not yet.
        concerned = {subject for subject, _ in keys} | {network for network, _ in networks}
        evidence = [
            e
            for e in (self._evidence if self.store_fault is None else ())
            if e.subject in concerned or address.network_of(e.subject) in concerned
        ]
        try:
            found = self._past_with(evidence, keys, sorted(networks), now.wall)
        except StoreError as error:
            if self.history_fault is None:
                log.error("%s; deciding without history. %s", error.message, error.hint)
            self.history_fault = error
            return {}, {}
        self.history_fault = None
        if self.freed:
            return self.freed.pasts(found[0]), self.freed.pasts(found[1])
        return found

    def _past_with(
        self,
        evidence: Sequence[Evidence],
        keys: Sequence[Key],
        networks: Sequence[Key],
        wall: float,
    ) -> tuple[Mapping[Key, Past], Mapping[Key, NetworkPast]]:
        if evidence:
            with suppress(StoreError):  # a store that cannot be written may well be read
                return self.store.pasts(keys, networks, wall, evidence)
        return self.store.pasts(keys, networks, wall)

    def _keep_counters(self, decisions: Sequence[Decision], known: AbstractSet[Key]) -> None:
        if self.backend is None:
            return
        again = [
            Entry(d.subject, d.scope, action, 0.0)
            for d in decisions
            if (d.subject, d.scope) in known
            for action in ACTIONS
        ]
        if again and self.store_fault is None:  # a locked one would hold each batch up for 0.1 s
            try:
                self.store.packets(self.backend.lookup(again))
            except (BackendError, StoreError) as error:
                log.warning("packet counters of renewed entries are lost: %s", error.message)
            except Exception as error:  # noqa: BLE001 - the decision counts, not its counter
                self.skipped.add("counter", error)


def _entries(decision: Decision, now: float, known: AbstractSet[Key]) -> list[Entry]:
    """Return the elements that a decision wants. A release removes whatever is there.

    A throttle or ban also removes the exemption of a subject that was `known`: of what is in force
    in the kernel the strictest applies, but an exemption may last longer.
    """
    subject, scope, action = decision.subject, decision.scope, decision.action
    if action == "release":
        return [Entry(subject, scope, each, 0.0) for each in ACTIONS]
    wanted = Entry(subject, scope, action, max(1.0, decision.until - now), decision.rate)
    if action == "exempt" or (subject, scope) not in known:
        return [wanted]
    return [Entry(subject, scope, "exempt", 0.0), wanted]


def _later(entry: Entry, passed: float) -> Entry | None:
    """Return an element as it is some seconds later; None if it has ended."""
    if entry.seconds <= 0:
        return entry
    left = entry.seconds - passed
    return replace(entry, seconds=left) if left > 0 else None


def _in_force(
    pasts: Mapping[Key, Past], networks: Mapping[Key, NetworkPast], now: float
) -> list[Key]:
    return [key for group in (pasts, networks) for key, past in group.items() if past.until > now]
