"""Strangers in one scope: limited by an `Admission`, and their sessions ended where need be.

`throttled.decide.overload` decides, `throttled.enforce.admission` counts and drops. Here the two
meet the open connections, which inet_diag lists. Whatever fails (the kernel, the store) means that
everybody is admitted. Owns the `Admission` of the scope.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from msgspec import Struct

from throttled.address import network_of, unpack
from throttled.clock import Moment
from throttled.control.overload import NOBODY, READING, Delayed, OverloadStatus
from throttled.core.known_good import KnownGood
from throttled.core.waits import Waits
from throttled.decide.overload import (
    PACE,
    POSTPONED,
    Delays,
    Look,
    Passing,
    Processes,
    at_once,
    to_end,
)
from throttled.enforce.admission.protocol import (
    Admission,
    AdmissionCounts,
    AdmissionLimits,
)
from throttled.enforce.sockets import Socket, destroy
from throttled.errors import BackendError
from throttled.model import Scope
from throttled.settings import OverloadMode

log = logging.getLogger("throttled")

#: Seconds after which a start that failed is tried again, and one is after what failed later: rules
#: that another program removed, a Postfix that was started again elsewhere.
_AGAIN, _SOON = 60.0, 5.0
_RENEW, _CORRECT = 1.0, 2.0
#: With the smallest cap, else a quarter of it, as is reserved: connections that the addresses of a
#: pool may have that are not known good by themselves; more are many for a known good network.
_FEW = 2
_NETWORKS = 5
#: Of turns that are shorter, tenths of a second count.
_SHORT = 2.0
_NOTHING = AdmissionCounts()


class Wanted(Struct, frozen=True):
    """What holds in a scope."""

    mode: OverloadMode
    ports: tuple[int, ...] = ()
    cap: int = 0  # 0: any number
    turn: float = 300.0
    idle: float = 10.0
    greeting: float = 0.0  # seconds between the first and the last line of Postfix's greeting
    why: str = ""  # nothing is limited: the reason
    tls: frozenset[int] = frozenset()  # of the ports, those at which clients speak first


class Strangers:
    """Clients of a scope that are not known good."""

    def __init__(
        self,
        scope: Scope,
        known: KnownGood,
        make: Callable[[], Sequence[Admission]],
        end: Callable[[Sequence[Socket]], int] = destroy,
    ) -> None:
        """Limit nobody yet.

        Args:
            scope: whose.
            known: who is no stranger.
            make: returns means of admission control, the best first.
            end: ends sessions, and returns how many have ended.
        """
        self.scope = scope
        self.wanted = Wanted("off")
        self.error: BackendError | None = None
        self.delays = Delays()
        self.open = 0
        self.ended = 0  # sessions, since the start
        self.starting = False  # strangers wait for Postfix to start processes
        self._known = known
        self._make = make
        self._end_sessions = end
        self._admission: Admission | None = None
        self._unusable: list[str] = []  # better means than that, and why
        self._counts = _NOTHING
        self._limits: AdmissionLimits | None = None
        self._processes, self._passing = Processes(0), Passing()
        self._sound = True  # the mode and the store allowed dropping at the latest step
        self._over_cap = 0  # connections dropped by the cap in the latest step
        self._began = 0.0  # wall clock, since when strangers are delayed
        self._tried = self._renewed = self._corrected = 0.0  # boot clock
        self._waits = Waits()

    @property
    def active(self) -> bool:
        """Whether connections are to be limited, or what would be is to be reported."""
        return self.wanted.mode != "off" and bool(self.wanted.ports and self.wanted.cap)

    @property
    def tried(self) -> bool:
        """Whether a means was started, or none could be."""
        return bool(self._tried)

    @property
    def busy(self) -> bool:
        """Whether the open connections are to be looked at each time."""
        if self._admission is None:
            return False
        more = self._counts.open > self._processes.ready
        return more or self.delays.since > 0 or not self._admission.exact

    @property
    def _few(self) -> int:
        return max(_FEW, self.wanted.cap // 4)

    def follow(self, wanted: Wanted) -> None:
        """Take what holds now; limits of a started means change with the next step."""
        if wanted.ports != self.wanted.ports:
            self.stop()
        if wanted.cap != self.wanted.cap:
            self._processes = Processes(wanted.cap)
        self.wanted = wanted
        self._tried = 0.0  # what failed may work now
        if not self.active:
            self.stop()

    def step(self, now: Moment, *, dropping: bool) -> None:
        """Learn what was dropped, and set the limits accordingly.

        Args:
            now: both clocks.
            dropping: whether the mode and the store allow it.
        """
        if not self.active or not self._known.read:
            return
        self._sound = dropping
        # With nobody known good there is nobody whom this would help, as on a first day.
        dropping &= self._known.count(self.scope) > 0
        try:
            admission = self._admission or self._start(now, dropping=dropping)
            if admission is not None:
                self._step(admission, now, dropping=dropping)
        except BackendError as error:
            self._failed(error, now)

    def sample(self, sockets: Sequence[Socket], now: Moment) -> None:
        """Compare with the open connections, and end those of strangers that others wait for.

        Args:
            sockets: open connections to any port.
            now: both clocks.
        """
        admission = self._admission
        if admission is None:
            return
        ours = [s for s in sockets if s.port in self.wanted.ports]
        self._known.crowded(self.scope, (s.far for s in ours), self._few, now.wall)
        strangers = [s for s in ours if (s.far, self.scope) not in self._known]
        self.open = len(strangers)
        self._waits.look(ours, now.boot, self.wanted.tls)
        self._see(ours, strangers, now.boot)
        try:
            if self._limits is not None:  # those of processes that were started since the last look
                self._limit(admission, replace(self._limits, places=self._processes.places))
            if not admission.exact or now.boot - self._corrected >= _CORRECT:
                self._corrected = now.boot
                admission.correct(len(strangers))
            if self._limits is not None and self._limits.dropping:
                self._end(admission, ours, strangers)
        except BackendError as error:
            self._failed(error, now)

    def leave(self) -> None:
        """Stop at the end of the process: the next one may take over, see `Admission.leave`."""
        if self._admission is not None:
            with suppress(BackendError):
                self._admission.leave()
        self._admission = None

    def stop(self) -> None:
        """Admit everybody. Idempotent."""
        if self._admission is not None:
            with suppress(BackendError):
                self._admission.stop()
        self._admission, self._limits, self._counts = None, None, _NOTHING
        self.delays, self.open, self.starting = Delays(), 0, False
        self._passing, self._waits = Passing(), Waits()

    def status(self) -> OverloadStatus:
        """Return what `status` says."""
        counts, admission = self._counts, self._admission
        dropping = self._limits is not None and self._limits.dropping
        why = self.error.message if self.error else self.wanted.why
        if not why and self.wanted.mode == "enforce" and not dropping:
            why = self._not_dropping()
        most: list[tuple[str, int]] = []
        if admission is not None and self.delays.since:
            with suppress(BackendError):
                most = admission.delayed_networks(_NETWORKS)
        return OverloadStatus(
            self.scope,
            self.wanted.mode,
            "" if admission is None else admission.name,
            self.wanted.cap,
            max(self.open, counts.open),
            self._known.count(self.scope),
            self._began if self.delays.delaying else 0.0,
            self.delays.turn,
            counts.networks,
            counts.admitted,
            counts.dropped_cap,
            counts.dropped_pace,
            counts.dropped_turn,
            self.ended,
            why,
            self._unusable,
            [Delayed(*one) for one in most],
        )

    def _not_dropping(self) -> str:
        if not self._known.read:
            return READING
        if self._known.count(self.scope) == 0:
            return NOBODY
        return "" if self._sound else "the database cannot be used"  # "": the next step drops

    def _start(self, now: Moment, *, dropping: bool) -> Admission | None:
        if self._tried and now.boot - self._tried < _AGAIN:
            return None
        self._tried = now.boot
        self._known.changes(self.scope)
        admission, limits = self._first(dropping=dropping)
        self._admission, self._limits, self._renewed = admission, limits, now.boot
        self._counts, self.error = admission.counts(), None
        log.info(
            "admission control by %s in %s: strangers may have %d connections open, %d clients "
            "are known good",
            admission.name,
            self.scope,
            self.wanted.cap,
            self._known.count(self.scope),
        )
        for each in self._unusable:
            log.warning("admission control in %s cannot use %s", self.scope, each)
        return admission

    def _first(self, *, dropping: bool) -> tuple[Admission, AdmissionLimits]:
        """Start the first means that works here.

        Raises:
            BackendError: none does; what each lacks, and what to do for the best one.
        """
        self._unusable, hint = [], ""
        for admission in self._make():
            limits = self._limits_of(admission, dropping=dropping)
            try:
                admission.start(self.wanted.ports, limits, self._known.subjects(self.scope))
            except BackendError as error:
                self._unusable.append(f"{admission.name}: {error.message}")
                hint = hint or error.hint
            else:
                return admission, limits
        raise BackendError("; ".join(self._unusable), hint)

    def _step(self, admission: Admission, now: Moment, *, dropping: bool) -> None:
        changes = self._known.changes(self.scope)
        if changes:
            admission.remove_known([subject for subject, added in changes.items() if not added])
            admission.add_known([subject for subject, added in changes.items() if added])
        look = self._look(admission, now.boot)
        change = self.delays.step(now.boot, look, self.wanted.turn, self.wanted.cap)
        limits = self._limits_of(admission, dropping=dropping)
        self._limit(admission, limits)
        if now.boot - self._renewed >= _RENEW:
            admission.renew()
            self._renewed = now.boot
        if change.began:
            self._began = now.wall - (now.boot - self.delays.since)
            verb = "are" if limits.dropping else "would be"
            others = "are not" if limits.dropping else "wait behind them for a process of Postfix"
            log.warning(
                "overload in %s: strangers %s delayed, more than %d connections; known good "
                "clients %s",
                self.scope,
                verb,
                limits.cap,
                others,
            )
        elif change.ended:
            log.info("overload in %s is over: strangers are no longer delayed", self.scope)

    def _look(self, admission: Admission, at: float) -> Look:
        """Return what happened since the look before."""
        counts, before = admission.counts(), self._counts
        self._counts = counts
        self._over_cap = max(0, counts.dropped_cap - before.dropped_cap)
        paced = max(0, counts.dropped_pace - before.dropped_pace)
        turned = max(0, counts.dropped_turn - before.dropped_turn)
        admitted = max(0, counts.admitted - before.admitted)
        if admission.exact:
            self.starting = paced > 0
            passing = self._passing.step(at, paced, admitted, self.wanted.cap)
            above, paced = self._over_cap + passing, paced - passing
            return Look(above, paced, turned, admitted, counts.networks, counts.open)
        if self.open < self.wanted.cap:  # dropped because of `places`
            self._over_cap = 0
        others = max(0, counts.dropped - before.dropped) - self._over_cap
        return Look(self._over_cap, 0, others, admitted, open=self.open)

    def _limits_of(self, admission: Admission, *, dropping: bool) -> AdmissionLimits:
        few = self.open < at_once(self.wanted.cap)
        pace = 0 if admission.exact else at_once(self.wanted.cap) if few else PACE
        acts = dropping and self.wanted.mode == "enforce"
        turn = round(self.delays.turn, int(self.delays.turn < _SHORT))
        return AdmissionLimits(self.wanted.cap, pace, turn, acts, self._processes.places)

    def _limit(self, admission: Admission, limits: AdmissionLimits) -> None:
        if limits != self._limits:
            admission.limit(limits)
            self._limits = limits

    def _see(self, ours: Sequence[Socket], strangers: Sequence[Socket], at: float) -> None:
        """Count the processes, and the connections that wait for one."""
        waiting = self._waits.queued()
        known = len(ours) - len(strangers) - len(waiting - {s.identity for s in strangers})
        self._processes.see(at, len(ours) - len(waiting), known, len(waiting))

    def _end(
        self, admission: Admission, ours: Sequence[Socket], strangers: Sequence[Socket]
    ) -> None:
        """End the sessions that waste places or processes, as far as others wait for these."""
        some, wanted = strangers, self._over_cap if self.delays.full else 0
        if not self.delays.full and len(strangers) <= self.wanted.cap:
            some, wanted = self._in_the_way(ours)
        places = [self._waits.place(each) for each in some]
        about = self.wanted.cap, wanted, self.wanted.idle, self.wanted.greeting
        wasted = {place.key: place.wasted for place in to_end(places, *about)}
        if wasted:
            ending = [s for s in some if s.identity in wasted]
            ended = self._end_sessions(ending)
            self.ended += ended
            admission.postpone([s.far for s in ending if wasted[s.identity]], POSTPONED)
            whose = ", ".join(sorted({unpack(s.far) for s in ending})[:_NETWORKS])
            log.debug("ended %d idle sessions in %s: %s", ended, self.scope, whose)

    def _in_the_way(self, ours: Sequence[Socket]) -> tuple[list[Socket], int]:
        """Return the sessions that may be ended for known good clients, and how many are wanted.

        Those of strangers, where a known good client waits for a process; where one of a network
        with few connections does, those of networks with many too, unless they are protected: two
        messages on two days are cheap.
        """
        late = {s for s in ours if self._waits.late(s)}
        if not late:
            return [], 0
        networks = {s.far: network_of(unpack(s.far)) for s in ours}
        many, protects = Counter(networks[s.far] for s in ours), self._known.protects
        good = {s for s in ours if (s.far, self.scope) in self._known}
        first = {s for s in good if many[networks[s.far]] <= self._few or protects(s.far)}
        at, at_first = ({s.port for s in some & late} for some in (good, first))
        others = [s for s in ours if s.inode and s not in first]
        return [s for s in others if s.port in (at_first if s in good else at)], len(late)

    def _failed(self, error: BackendError, now: Moment) -> None:
        if self.error is None:
            text = "no admission control in %s, everybody is admitted: %s. %s"
            log.warning(text, self.scope, error.message, error.hint)
        again = _AGAIN if self._admission is None else _SOON
        self.stop()
        self.error, self._tried = error, now.boot - _AGAIN + again
