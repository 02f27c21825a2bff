"""Admission control of the running daemon: what drives `throttled.core.overload`.

A task of its own, as an attack is answered within fractions of a second: what was dropped is looked
at four times a second (ten times while Postfix starts processes for strangers), the open
connections every two seconds, while strangers are delayed each time. Everybody is admitted while
the store cannot be read, and if anything here raises.

Programs of a process before this one go on until those of this one are in their place.

Owns who is known good, the strangers of each scope, and those programs.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from throttled.clock import Moment, now
from throttled.config.schema import Config
from throttled.control.overload import OverloadStatus
from throttled.core.known_good import KnownGood
from throttled.core.overload import Strangers, Wanted
from throttled.core.pipeline import Pipeline
from throttled.decide.overload import FEWEST, cap
from throttled.decide.protect import Protection
from throttled.enforce.admission.places import Former
from throttled.enforce.admission.protocol import Admission
from throttled.enforce.admission.registry import choose
from throttled.enforce.sockets import opened
from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.health.overload import findings
from throttled.model import SCOPES, Decision, Finding, Scope

log = logging.getLogger("throttled")

_EVERY, _STARTING, _SAMPLE, _JUDGE = 0.25, 0.1, 2.0, 1.0
#: Of postscreen_greet_wait (postconf(5): 6 s), and some more: then the greeting's last line comes.
_GREETING = 8.0
#: Seconds after which a store that failed is read again.
_AGAIN = 10.0
_PROXIED = "Postfix's services here get their clients from a proxy"


class Overload:
    """Admission control in all scopes."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        observing: bool,
        ready: Callable[[], bool] = lambda: True,
        make: Callable[[bool], Sequence[Admission]] = choose,
    ) -> None:
        """Limit nobody yet.

        Args:
            pipeline: its recorder has the evidence.
            observing: nothing is dropped, whatever the mode.
            ready: returns whether the database is open, and has the evidence of existing logs.
            make: returns means of admission control, the best first; its argument: whether nothing
                may be in the kernel.
        """
        self._pipeline = pipeline
        self._ready = ready
        self._observing = observing
        self._former = Former()
        self._known = KnownGood(pipeline.recorder, self._allowed)
        self._strangers = [
            Strangers(scope, self._known, partial(make, observing)) for scope in SCOPES
        ]
        self._store_error: StoreError | None = None
        self._loading: asyncio.Task[None] | None = None
        self._sampled = self._judged = 0.0  # boot clock

    def __call__(self, decisions: Sequence[Decision]) -> None:
        """Learn who was throttled, banned or unbanned."""
        self._known.decided(decisions)

    def follow(self, config: Config, facts: Facts, protection: Protection) -> None:
        """Take configuration, facts and protection as they are now."""
        self._known.protect(protection)
        for strangers in self._strangers:
            strangers.follow(wanted(config, facts, strangers.scope, observing=self._observing))

    async def run(self) -> None:
        """Limit strangers, for ever."""
        while True:
            starting = any(one.starting for one in self._strangers)
            await asyncio.sleep(_STARTING if starting else _EVERY)
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - nothing of ours fails closed
                self._pipeline.skipped.add("step", error)
                self.stop()

    def stop(self) -> None:
        """Admit everybody, until the next step."""
        self._former.detach()
        for strangers in self._strangers:
            strangers.stop()

    def close(self) -> None:
        """End; the next process may take over (`Admission.leave`)."""
        if self._loading is not None:
            self._loading.cancel()
        for strangers in self._strangers:
            strangers.leave()

    def status(self) -> list[OverloadStatus]:
        """Return what `status` says of scopes that have services."""
        return [one.status() for one in self._strangers if one.wanted.ports]

    def findings(self, _at: float) -> Iterator[Finding]:
        """Yield what an operator should know."""
        yield from findings(self.status())

    def _step(self) -> None:
        active = [one for one in self._strangers if one.active]
        if active:
            self._limit(active, now())
        if all(one.tried for one in active):
            self._former.detach()

    def _limit(self, active: Sequence[Strangers], moment: Moment) -> None:
        if moment.boot - self._judged >= _JUDGE:
            self._judged = moment.boot
            self._learn()
        recorder = self._pipeline.recorder
        errors = self._store_error, recorder.error, recorder.unread
        sound = self._ready() and not any(errors)
        for one in active:
            one.step(moment, dropping=sound)
        if any(one.busy for one in active) or moment.boot - self._sampled >= _SAMPLE:
            self._sampled = moment.boot
            sockets = opened({port for one in active for port in one.wanted.ports})
            for one in active:
                one.sample(sockets, moment)

    def _allowed(self, client: str) -> bool:
        """Return whether a client is protected: by its host name, as far as that is remembered."""
        engine, ladder = self._pipeline.engine, self._pipeline.ladder
        return bool(ladder.protection.reason(client, engine.name(client)))

    def _learn(self) -> None:
        """Keep up to date who is known good."""
        moment = now()
        idle = self._loading is None or self._loading.done()
        if idle and self._ready() and self._known.due(moment.boot):
            self._loading = asyncio.get_running_loop().create_task(self._load())
        for one in self._strangers:
            if not one.active:
                self._known.changes(one.scope)  # nobody else asks
        try:
            self._known.tick(moment)
        except StoreError as error:
            self._failed(error)

    async def _load(self) -> None:
        try:
            await self._known.load(now())
            self._store_error = None
        except StoreError as error:
            self._failed(error)

    def _failed(self, error: StoreError) -> None:
        self._store_error = error
        self._known.failed(now().boot, _AGAIN)


def wanted(config: Config, facts: Facts, scope: Scope, *, observing: bool) -> Wanted:
    """Return what configuration and facts want in a scope; observing, it is only reported."""
    settings = config.overload
    # Behind a proxy all connections are the proxy's.
    known = [s for s in facts.services if s.scope == scope]
    proxied = {s.port for s in known if s.proxy}
    services = [s for s in known if s.port not in proxied]
    mode = settings.mode(scope)
    if observing and mode == "enforce":
        mode = "report"
    if mode == "off" or not services:
        return Wanted(mode, why=_PROXIED if known else "no service of Postfix is known")
    most = cap(settings, [service.processes for service in services])
    why = "" if most else _without(max(service.processes for service in services))
    ports = tuple(sorted({service.port for service in services}))
    greeting = _GREETING if any(s.process == "postscreen" for s in services) else 0.0
    tls = frozenset(ports) - {s.port for s in services if not s.tls}
    return Wanted(mode, ports, most, float(settings.turn), float(settings.idle), greeting, why, tls)


def _without(processes: int) -> str:
    """Return why services have no cap."""
    if processes:
        return f"Postfix has fewer than {FEWEST} processes here ({processes}); set [overload] cap"
    return "Postfix has no process limit here; set [overload] cap"
