"""One batch on its way: parse, count, judge, record, apply. The daemon and `replay` both use it.

Record, then apply: a decision is in the store before it is in the kernel. A line, an event or a
decision that raises an unexpected error is skipped (`throttled.skipped`), the others continue.

Owns the engine, the senders, the ladder and the parsers. Blocks for as long as SQLite and the
kernel take.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from throttled import address
from throttled.clock import Moment
from throttled.core import exemptions
from throttled.core.behind import SPARED, Behind
from throttled.core.counting import Counting, Counts
from throttled.core.enforcer import Enforcer, entries_of
from throttled.core.explain import explain
from throttled.core.good_senders import GoodSenders
from throttled.core.guessing import acquitted
from throttled.core.recorder import Key, Recorder
from throttled.core.reporting import Reports
from throttled.decide.active import Excuse
from throttled.decide.engine import Engine
from throttled.decide.ladder import Ladder, Ruling
from throttled.decide.protect import Protection
from throttled.decide.senders import Senders
from throttled.enforce.backend import Backend
from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.model import (
    SCOPES,
    Action,
    Change,
    Crossing,
    Decision,
    Entry,
    NetworkPast,
    Past,
    Scope,
)
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.skipped import Skipped
from throttled.store.store import Store, StoredPosition

log = logging.getLogger(__name__)


class Pipeline:
    """The way of the data from lines to the kernel."""

    def __init__(
        self, policy: Policy, facts: Facts, store: Store, backend: Backend | None, parser: Parser
    ) -> None:
        """Join the rooms.

        Args:
            policy: what the operator wants.
            facts: what is so on this host.
            store: where decisions are recorded.
            backend: where they are applied; None in a replay.
            parser: its zone and reference are the log's.
        """
        self.skipped = Skipped()
        self.counts = Counts()
        self.recorder = Recorder(store, self.skipped)
        self.enforcer = Enforcer(backend, self.skipped)
        self.engine = Engine(policy, facts, peaks=backend is not None)
        self.senders = Senders(policy, facts)
        self.answered(connected=False)
        self.ladder = Ladder(policy, Protection.of(facts, policy.protect))
        self.counting = Counting(self.engine, self.senders, parser, self.skipped, self.counts)
        self.behind = Behind(Ladder(policy, self.ladder.protection), self.engine)
        self._good = GoodSenders(self.engine, self.recorder)
        self._further: list[Crossing] = []
        self.reports = Reports(self.engine, self.senders, self.ladder, self.recorder)

    def reconfigure(self, policy: Policy, protection: Protection) -> None:
        """Take another policy and protection; what was counted stays."""
        self.engine.reconfigure(policy, names=protection.by_name)
        self.senders.reconfigure(policy)
        for ladder in (self.ladder, self.behind.ladder):
            ladder.policy = policy
            ladder.protection = protection

    def answered(self, *, connected: bool, recipients: bool = False) -> None:
        """Learn what Postfix asks about: what is decided about senders acts only then.

        Where nothing is enforced, decisions about senders are taken as those about clients are.

        Args:
            connected: about each message.
            recipients: about each recipient.
        """
        backend = self.enforcer.backend
        always = backend is None or not backend.enforces
        self.senders.acting = connected or always
        self.senders.receiving = recipients or always

    def change_store(self, store: Store, now: Moment, decisions: Sequence[Decision]) -> None:
        """Remember in another store from now on; see `Recorder.change_store`."""
        self.engine.clear_lines()  # a store has its own numbers for log files
        self.senders.trace.clear()
        self.recorder.change_store(store, now, decisions)

    def unban(
        self, subject: str, scope: Scope | None, now: Moment, exempt_until: float = 0.0
    ) -> int:
        """Reset what a subject did and what was decided; see `Recorder.unban`."""
        if subject:
            self._reset([(subject, scope)])
        else:
            self.behind.unban(subject, scope)
            self.engine.reset_all(scope)
            self.senders.reset_all(scope)
        count = self.recorder.unban(subject, scope, now, exempt_until)
        self._end_exemptions([(subject, one) for one in SCOPES if scope in (None, one)], now)
        return count

    def unban_many(self, exempt: Mapping[Key, float], now: Moment) -> None:
        """Reset what many subjects did and what was decided; see `Recorder.unban_many`."""
        self._reset(exempt)
        self.recorder.unban_many(exempt, now)
        self._end_exemptions(list(exempt), now)

    def unban_of_peer(  # noqa: PLR0913 - see there
        self,
        exempt: Mapping[Key, float],
        noted: Iterable[Key],
        published: float,
        now: Moment,
        *,
        origin: str,
        changes: Iterable[Change],
        position: StoredPosition,
    ) -> None:
        """Reset what subjects did and what was decided; see `Store.unban_of_peer`.

        Raises:
            StoreError: it could not be recorded.
        """
        self._reset(exempt)
        self.recorder.drop(exempt)
        store, what = self.recorder.store, (exempt, noted, published, now.wall)
        store.unbans.unban_of_peer(*what, origin=origin, changes=changes, position=position)
        self._end_exemptions(list(exempt), now)

    def _reset(self, keys: Iterable[tuple[str, Scope | None]]) -> None:
        for subject, scope in keys:
            self.behind.unban(subject, scope)
            self.engine.reset(subject, scope)
            self.senders.reset(subject)

    def _end_exemptions(self, released: Sequence[Key], now: Moment) -> None:
        if ends := exemptions.ended(released, self.recorder.store, now.wall):
            self.decide(ends, now)

    def flush(self, setup: Callable[[], object], now: Moment) -> None:
        """Remove all elements from the kernel at once, and add what is still active.

        Args:
            setup: puts the backend's table in place, empty.
            now: both clocks.
        """
        if not self.enforcer.flush(setup):
            return
        try:
            for entries in self.recorder.store.active.entries(now.wall):  # exemptions
                self.enforcer.apply(self.recorder.unbans.others(entries), now)
        except StoreError as error:
            log.error("%s; exemptions are restored later. %s", error.message, error.hint)

    def errors(self) -> int:
        """Return how many errors there were on the way."""
        return self.recorder.errors + self.enforcer.errors

    def skipped_by_kind(self) -> dict[str, int]:
        """Return how many things were skipped because of unexpected errors, rows included."""
        found = dict(self.skipped.counts)
        for kind, count in self.recorder.store.skipped.counts.items():
            found[kind] = found.get(kind, 0) + count
        return found

    # Deciding

    def settle(
        self,
        now: Moment,
        positions: Sequence[StoredPosition] | None = None,
        began: float | None = None,
    ) -> tuple[list[Decision], list[tuple[Crossing, str]]]:
        """Judge what was counted since the last call, record it and apply it.

        Args:
            now: both clocks.
            positions: how far the logs have been read, see `Recorder.record`.
            began: `time.perf_counter()` when the lines were read; None = not timed.

        Returns:
            The decisions taken, and the crossings that were spared with the reason.
        """
        outcome = self.engine.drain()
        if outcome.behind:
            self.skipped.run("decision", [outcome.behind], lambda c: self.behind.judge(c, now))
        self.behind.acquit(outcome.acquitted_behind, now)
        # Of this batch alone: nobody asks for them while observing, or in a replay.
        self._further = outcome.further
        self.recorder.add(outcome.evidence, outcome.activity)
        self.reports.attacked(now)
        newcomers = self._good.newcomers(outcome.evidence, now)
        newcomers += acquitted(outcome.acquitted, self.recorder.store, now)
        crossings = [*self.reports.acting(outcome.crossings, now), *self.senders.crossings()]
        if not crossings:
            if newcomers:
                self.decide(newcomers, now, positions, began=began)
            return newcomers, []
        decisions = list(newcomers)
        spared: list[tuple[Crossing, str]] = []
        before: dict[Key, Action | None] = {}
        judge = partial(self._judge, now=now)
        for ruling, pasts, networks in self.skipped.each("decision", crossings, judge):
            if log.isEnabledFor(logging.DEBUG):
                for text in explain(ruling, pasts, networks):
                    log.debug("%s", text)
            self._hold(crossings, pasts, networks, now)
            for crossing, value in ruling.excused:
                if self.ladder.policy.of_senders(crossing.limit):
                    excuse = Excuse(crossing.action, value, now.boot + SPARED)
                    active = self.senders.active[crossing.scope]
                    active.excuse(crossing.subject, crossing.limit, excuse, now.boot)
                else:
                    self.engine.excuse(crossing, value, now.boot + SPARED, now.boot)
            # The kernel is to know the good senders of a network before it knows the network.
            decisions += [*self._good.inside(ruling.decisions, now), *ruling.decisions]
            spared += ruling.spared
            before |= _in_force(pasts, networks, now.wall)
        self.decide(decisions, now, positions, before, began)
        return decisions, spared

    def further(self, now: Moment) -> list[Decision]:
        """Return the throttles active whose clients went on, with the sessions to be ended.

        They are nothing new: neither to be recorded nor to be applied, which would fill the
        client's allowance again.
        """
        further, self._further = self._further, []
        why = "still above a limit with a throttle rate of its own"
        return [
            Decision(
                now.wall,
                "throttle",
                c.subject,
                c.scope,
                c.limit,
                0,
                0.0,
                why,
                pid=c.pid,
                port=c.port,
            )
            for c in further
            if self.ladder.policy.mode_of(c.limit) != "report"
        ]

    def _judge(
        self, crossings: Sequence[Crossing], now: Moment
    ) -> tuple[Ruling, Mapping[Key, Past], Mapping[Key, NetworkPast]]:
        """Judge crossings by their history."""
        pasts, networks = self.recorder.past(crossings, now)
        return self.ladder.judge(crossings, pasts, networks, now.wall), pasts, networks

    def _hold(
        self,
        crossings: Sequence[Crossing],
        pasts: Mapping[Key, Past],
        networks: Mapping[Key, NetworkPast],
        now: Moment,
    ) -> None:
        """Tell the engine what is active already: after a restart it does not."""
        enforced = self.enforcer.enforcing()
        for key in {(c.subject, c.scope) for c in crossings}:
            past = pasts.get(key) or networks.get(key)
            if past is not None and past.action is not None and past.until > now.wall:
                until = now.boot + past.until - now.wall
                banned = enforced and past.action == "ban"
                self.engine.hold(
                    *key, past.action, until, now.boot, enforced=banned, rate=past.rate
                )

    def decide_peers(
        self,
        decisions: Sequence[Decision],
        pasts: Mapping[Key, Past],
        now: Moment,
        positions: Sequence[StoredPosition] | None,
    ) -> None:
        """Record and apply what was decided about entries of a peer or a list; see `decide`.

        Args:
            decisions: what was decided.
            pasts: what the store knows of their subjects.
            now: both clocks.
            positions: how far logs and the peer's stream have been read; None for a list.
        """
        # The kernel is to know the good senders of a network before it knows the network.
        both = [*self._good.inside(decisions, now), *decisions]
        self.decide(both, now, positions, _in_force(pasts, {}, now.wall))

    def decide(
        self,
        decisions: Sequence[Decision],
        now: Moment,
        positions: Sequence[StoredPosition] | None = None,
        before: Mapping[Key, Action | None] = MappingProxyType({}),
        began: float | None = None,
    ) -> None:
        """Record decisions, then apply them.

        Args:
            decisions: what was decided, by whomever.
            now: both clocks.
            positions: how far the logs have been read, see `Recorder.record`.
            before: the actions active against subjects until now; None = unknown, but some are. The
                counter of an element is read before it is renewed, which sets it to zero.
            began: `time.perf_counter()` when what led to them arrived; None = not timed.
        """
        released = exemptions.released(decisions)
        decisions = [*decisions, *exemptions.ended(released, self.recorder.store, now.wall)]
        # Of a client that is waited for: as little as possible before its packets are dropped.
        ahead = (
            began is not None
            and positions is not None
            and self.recorder.write_ahead(now, decisions, positions)
        )
        if not ahead:
            self.recorder.record(now, decisions, positions)
        recorded = time.perf_counter()
        self._keep_counters(decisions, before)
        valid = self.recorder.without_refused(decisions, now)
        entries = [entry for d in valid for entry in entries_of(d, now.wall, before)]
        self.enforcer.apply(entries, now)
        if began is not None and decisions:
            self.counts.decided.add(recorded - began, len(decisions))
            self.counts.enforced.add(time.perf_counter() - began, len(decisions))
        if ahead:
            self.recorder.record(now, positions=positions)
        enforced, of_senders = self.enforcer.enforcing(), self.ladder.policy.of_senders
        self.counts.add(decisions)

        def hold(d: Decision) -> None:
            until = now.boot + d.until - now.wall
            if address.is_named(d.subject) or of_senders(d.limit):
                self.senders.hold(d, until, now.boot)
            elif d.action == "release":
                self.engine.release(d.subject, d.scope)
            elif d.action != "exempt":
                self.engine.hold(
                    d.subject, d.scope, d.action, until, now.boot, enforced=enforced, rate=d.rate
                )

        self.skipped.run("decision", decisions, hold)

    def _keep_counters(
        self, decisions: Sequence[Decision], before: Mapping[Key, Action | None]
    ) -> None:
        """Add the counters of elements that are about to be renewed to those of the store."""
        if not before or self.recorder.error is not None:
            return
        again = (
            Entry(d.subject, d.scope, d.action, 0.0)
            for d in decisions
            if d.action != "release" and before.get((d.subject, d.scope), "") in {None, d.action}
        )
        self.recorder.packets(self.enforcer.counters(again))


def _in_force(
    pasts: Mapping[Key, Past], networks: Mapping[Key, NetworkPast], now: float
) -> dict[Key, Action | None]:
    return {
        key: past.action
        for group in (pasts, networks)
        for key, past in group.items()
        if past.until > now
    }
