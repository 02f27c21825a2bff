"""Reconciles the kernel with the store: setup, change notifications, periodic checks, repair.

When the kernel announces that another program added or removed single elements, these are compared
with the store at once. After any other change the static rules are restored at once, then all
entries are compared, in pieces between which the event loop continues; a further change restarts
that. A timer checks the rules and looks up a random sample of the active entries, which finds
changes that were not announced (XDP announces none; iptables not that one of its sets was emptied).

Owns the watch on the kernel, and the one task that repairs.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import product

from throttled.clock import Moment, now, slept
from throttled.core.pipeline import Pipeline
from throttled.core.restoring import Kind, adopt, judge, restore
from throttled.core.sampling import ENDS, Sampler, used_of
from throttled.decide.reconcile import missing
from throttled.enforce.backend import Backend, Drift, Ruleset, RulesWatch, cannot_refuse
from throttled.errors import BackendError, ThrottledError
from throttled.model import ACTIONS, SCOPES, Entry, Finding, Scope

log = logging.getLogger("throttled")

#: A firewall is reloaded in several steps: after a change within _BURST, wait for _SETTLED.
_BURST, _SETTLED = 1.0, 0.2
#: Unknown elements in the kernel are searched for if the store has at most this many entries.
_ADOPT = 50_000
#: Seconds between checks.
_CHECK = 10.0
#: After a sample found elements missing: seconds until the next full comparison.
_DISTRUST = 600.0

#: Reported: this many repairs within this many seconds.
_OFTEN = (3, 600.0)

_KINDS: frozenset[Kind] = frozenset(product(SCOPES, ACTIONS))


class State(Enum):
    """What is known of the kernel, compared with the store."""

    STARTING = auto()  # what is stored is applied
    STEADY = auto()  # as stored, as far as is known
    DISTURBED = auto()  # something of ours was changed: to be repaired and compared
    LOST = auto()  # so, and elements that are not stored may be there
    COMPARING = auto()
    UNKNOWN = auto()  # a comparison failed; the next check finds what is missing


_TO_COMPARE = (State.DISTURBED, State.LOST)


class Reconciler:
    """Reconciles the kernel with the store; see the module."""

    def __init__(
        self, backend: Backend, pipeline: Pipeline, ruleset: Callable[[], Ruleset]
    ) -> None:
        """Touch nothing yet.

        Args:
            backend: the kernel.
            pipeline: whose store says what should be active, and which records failures.
            ruleset: returns the static rules of the present configuration and host.
        """
        self.backend = backend
        #: When something had to be repaired, on the boot clock; the latest times.
        self.disturbed: deque[float] = deque(maxlen=100)
        self.sampler = Sampler(backend, pipeline)
        self.ports: dict[Scope, tuple[int, ...]] = {}  # that the installed rules filter
        self._rejecting = False
        self._pipeline = pipeline
        self._ruleset = ruleset
        self._watch: RulesWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self.state = State.STARTING
        self._checked = self._distrusted = 0.0  # boot clock
        self._slept = slept()
        self._dropped = self._dropped_before = 0  # packets: by this table, by those before

    # Start and stop

    def start(self) -> None:
        """Set up the rules at once, keeping the kernel's elements; then restore all entries.

        Raises:
            BackendError: the kernel refused.
        """
        adopting = self.repair()
        self._listen()
        self._task = asyncio.get_running_loop().create_task(self._begin(adopting=adopting))

    async def begun(self) -> bool:
        """Wait for what `start` began; return whether all that is stored is active now."""
        if self._task is not None:
            await asyncio.wait({self._task})
        return self.state is State.STEADY and not self._interrupted()

    def repair(self) -> bool:
        """Put the backend's rules in place; return whether there was anything of ours.

        Raises:
            BackendError: the kernel refused.
        """
        ruleset = self._ruleset()
        adopting = self.backend.setup(ruleset)
        self.ports, self._rejecting = ruleset.ports, ruleset.reject
        return adopting

    def reconfigure(self) -> None:
        """Apply changed rules; if the kernel refuses, log it and try again later."""
        try:
            self.repair()
        except BackendError as error:
            self._refused(error)

    def compare(self) -> None:
        """Compare all elements with the store soon, because it is another database."""
        self._reconcile(Drift(rules=True, lost=True))

    def close(self) -> None:
        """Stop; elements stay in the kernel."""
        if self._task is not None:
            self._task.cancel()
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()

    async def _begin(self, *, adopting: bool) -> None:
        whole = await self._restore(adopting=adopting)
        if whole and adopting:
            await self._adopt()
        self._compared(State.STARTING, whole=whole)
        await self._work()

    # Checks

    def dropped(self) -> int:
        """Return the packets dropped so far, also by a table that another program deleted since.

        What was dropped between the latest call and the deletion is not known; called every second.

        Raises:
            BackendError: the kernel cannot be asked.
        """
        count = self.backend.dropped()
        if count < self._dropped:
            self._dropped_before += self._dropped
        self._dropped = count
        return self._dropped_before + count

    def findings(self, at: float) -> list[Finding]:
        """Return what an operator should know of the kernel.

        Args:
            at: now, on the boot clock.
        """
        found = self.sampler.findings()
        if self._rejecting and not self.backend.refuses:
            found.append(cannot_refuse(self.backend))
        often = sum(at - then < _OFTEN[1] for then in self.disturbed)
        if often >= _OFTEN[0]:
            what = f"another program changed the rules of throttled {often} times in ten minutes"
            hint = (
                "find the program that loads its own rules; it must not change those of throttled"
            )
            found.append(Finding("warning", what, hint, "firewall-disturbed"))
        return found

    def tick(self, moment: Moment) -> None:
        """Retry what the kernel or the store refused, remove expired elements, check."""
        if self._pipeline.enforcer.error is None:
            try:
                self.backend.collect()
                self.dropped()
            except BackendError as error:
                self._refused(error)
        broken = self._pipeline.enforcer.error
        self._pipeline.enforcer.retry(self.repair, moment)
        if broken and self._pipeline.enforcer.error is None:
            self._reconcile(Drift(rules=True, lost=True))
        if (asleep := slept()) > self._slept + ENDS:
            # The clock by which elements of netfilter end stood still: they are too long now.
            self._slept = asleep
            self._reconcile(Drift(rules=True, lost=True))
        if moment.boot - self._checked >= _CHECK and (self._task is None or self._task.done()):
            self._checked = moment.boot
            try:
                self._check(moment)
            except ThrottledError as error:
                self._refused(error)

    def _check(self, moment: Moment) -> None:
        if not self.backend.intact():
            self._reconcile(Drift(rules=True, lost=True))
            return
        was_full = self.sampler.full()
        self._pipeline.enforcer.refused.expire(moment.boot)
        lacking = self.sampler.check(moment)
        if lacking and not self.sampler.full() and (was_full or moment.boot >= self._distrusted):
            self._distrusted = moment.boot + _DISTRUST
            self._reconcile(Drift(rules=True, lost=True))

    def _listen(self) -> None:
        """Subscribe to changes that other programs make."""
        try:
            self._watch = self.backend.watch()
        except BackendError as error:
            log.warning("%s; changes are found by samples only", error.message)
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._changed)

    def _changed(self) -> None:
        drift = Drift() if self._watch is None else self._watch.drain()
        if drift.rules or drift.lost:
            self._reconcile(drift)
        if drift.entries:
            try:
                self._judge(drift.entries)
            except ThrottledError as error:
                self._refused(error)

    # Repairs

    def _judge(self, entries: Sequence[Entry]) -> None:
        """Restore single elements that are missing; adopt or remove unknown ones."""
        moment = now()
        pasts = self._pipeline.recorder.store.past(
            [(e.subject, e.scope) for e in entries], moment.wall
        )
        desired = [
            Entry(e.subject, e.scope, e.action, past.until - moment.wall, past.rate)
            for e in entries
            if (past := pasts[e.subject, e.scope]).action == e.action
        ]
        elements = self.backend.lookup(entries)
        absent = missing(self._pipeline.recorder.unbans.others(desired), elements)
        self._pipeline.enforcer.apply(absent, moment)
        others = judge(self._pipeline, elements, moment)
        if absent or others:
            self.disturbed.append(moment.boot)
            what = "another program changed %d elements in the firewall: restored %d, first %s"
            log.warning(what, len(entries), len(absent), entries[0].subject)

    def _reconcile(self, drift: Drift) -> None:
        """Set up and compare; again if another change comes meanwhile."""
        lost = drift.lost or self.state is State.LOST
        self.state = State.LOST if lost else State.DISTURBED
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self.state in _TO_COMPARE:
            if self.disturbed and now().boot - self.disturbed[-1] < _BURST:
                await asyncio.sleep(_SETTLED)
            lost, self.state = self.state is State.LOST, State.COMPARING
            moment = now()
            self.disturbed.append(moment.boot)
            log.warning("firewall rules changed by another program; restoring them")
            try:
                adopting = self.repair()
                self._pipeline.enforcer.retry(lambda: None, moment)  # what failed meanwhile
                lacking = not adopting or self.sampler.lacks(moment) or not self.sampler.fills
            except ThrottledError as error:
                self._refused(error)
                self._compared(State.COMPARING, whole=False)
                return
            whole = not lacking or await self._restore(adopting=adopting)
            if whole and lost and adopting:
                await self._adopt()
            self._compared(State.COMPARING, whole=whole)

    def _compared(self, now_over: State, *, whole: bool) -> None:
        """Leave a state, unless something happened meanwhile: then all is compared again."""
        if self.state is now_over:
            self.state = State.STEADY if whole else State.UNKNOWN

    async def _restore(self, *, adopting: bool) -> bool:
        """Put what is stored and missing into the kernel; return whether that came to its end."""
        bare = _KINDS
        try:
            if adopting:
                used = used_of(fills := self.backend.fill())
                counts = self._pipeline.recorder.store.active.counts(now().wall)
                # Where it has little, renewing that is cheaper than asking for each.
                bare = frozenset(k for k in _KINDS if fills and used[k] * 10 <= counts[k])
            count = await restore(self._pipeline, self.backend, now, bare, self._interrupted)
        except ThrottledError as error:
            self._refused(error)
            return False
        except Exception as error:  # noqa: BLE001 - the next check finds what is missing
            self._pipeline.skipped.add("comparison", error)
            return False
        if count:
            log.info("restored %d elements in the kernel", count)
        return not self._interrupted()

    def _interrupted(self) -> bool:
        """Return whether to stop comparing, because it will be restarted."""
        return self.state in _TO_COMPARE or self._pipeline.enforcer.error is not None

    async def _adopt(self) -> None:
        """Adopt elements that are not in the store."""
        try:
            # The kernel walks a set anew for each piece of a dump: a million take a minute.
            if sum(self._pipeline.recorder.store.active.counts(now().wall).values()) <= _ADOPT:
                await adopt(self._pipeline, self.backend, now)
        except ThrottledError as error:
            self._refused(error)
        except Exception as error:  # noqa: BLE001 - what is ours is active
            self._pipeline.skipped.add("comparison", error)

    def _refused(self, error: ThrottledError) -> None:
        log.error("%s. %s", error.message, error.hint)
        if isinstance(error, BackendError):
            self._pipeline.enforcer.error = error  # the next tick repairs, and compares again
