"""What operators ask of the running daemon: each request and its result.

A change is recorded, applied and then looked up in the kernel before it is answered. Owns nothing:
it reads and steers the daemon that made it.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from throttled import __version__, address, imports
from throttled.checks.firewall import prove
from throttled.control import protocol
from throttled.control.protocol import (
    AllowedResult,
    AllowRow,
    AuditResult,
    ChangeResult,
    Done,
    ExplainResult,
    ListResult,
    LogText,
    MeterRow,
    Request,
    Result,
    StatusResult,
    TailStatus,
    TopResult,
    Worst,
)
from throttled.control.server import Peer
from throttled.decide.engine import health_check_hint
from throttled.decide.limits import Meter
from throttled.errors import BackendError, RefusedError, SourceError, StoreError
from throttled.logs import Follower
from throttled.model import (
    ACTIONS,
    SCOPES,
    Entry,
    Line,
    Problem,
    Scope,
    Snapshot,
)
from throttled.policy import Duration
from throttled.store.store import Filter
from throttled.system import now
from throttled.tail.readback import lines_at

if TYPE_CHECKING:
    from throttled.daemon import Daemon


log = logging.getLogger(__name__)

#: Elements between two turns of the loop.
_PIECE = 1000


class Operations:
    """Answers requests."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        self._actions: dict[type, Callable[[Any, Peer], Result]] = {
            protocol.Ping: lambda _request, _peer: Done(),
            protocol.Status: lambda _request, _peer: self.status(),
            protocol.Prove: lambda _request, _peer: Done(prove(self._daemon.backend)),
            protocol.Top: self._top,
            protocol.List: self._list,
            protocol.Ban: partial(self._punish, "ban"),
            protocol.Throttle: partial(self._punish, "throttle"),
            protocol.Unban: self._unban,
            protocol.Disallow: self._disallow,
            protocol.Allowed: lambda _request, _peer: AllowedResult(self._allowed()),
            protocol.Audit: self._changes,
        }

    async def handle(self, request: Request, peer: Peer) -> Result:
        """Do what is asked.

        Raises:
            ThrottledError: it cannot be done; says why.
        """
        if isinstance(request, protocol.Reload):
            return Done(await self._daemon.reload())
        if isinstance(request, protocol.Import):
            return await imports.bring(self._daemon, request, peer)
        if isinstance(request, protocol.Explain):
            return await self._explain(request.subject)
        if isinstance(request, protocol.UnbanAll):
            return await self._unban_all(request)
        if isinstance(request, protocol.Allow):
            return await self._allow(request)
        return self._actions[type(request)](request, peer)

    # Looking

    def status(self) -> StatusResult:
        """Return the state of the daemon.

        Raises:
            StoreError: the store cannot be read.
        """
        daemon = self._daemon
        moment = now()
        pipeline = daemon.pipeline
        sizes = pipeline.engine.sizes()
        health = daemon.health.problems()
        enforced, counted = 0, False
        try:
            counts = daemon.store.counts(moment.wall)
            enforced, counted = daemon.guard.enforced(counts)
        except StoreError as error:  # all the more there is to be told
            counts = {}
            if all(problem.key != "store-unread" for problem in health):
                health.append(Problem("fault", error.message, error.hint, "store-unread"))
        return StatusResult(
            version=__version__,
            backend=daemon.backend.name,
            mode=daemon.config.mode,
            pid=os.getpid(),
            started=daemon.started.wall,
            uptime=moment.boot - daemon.started.boot,
            tails=[_tail(follower) for follower in daemon.logs.followers],
            clients=sizes["clients"],
            max_clients=daemon.config.max_clients,
            throttled={scope: counts.get((scope, "throttle"), 0) for scope in SCOPES},
            banned={scope: counts.get((scope, "ban"), 0) for scope in SCOPES},
            exempt={scope: counts.get((scope, "exempt"), 0) for scope in SCOPES},
            packets_dropped=daemon.guard.dropped(),
            desired=sum(counts.values()),
            enforced=enforced,
            counted=counted,
            health=health,
            events=dict(pipeline.counts.events),
            lines=pipeline.counts.lines,
            lines_lost=pipeline.counts.lines_lost,
            forgotten=sizes["dropped"],
            unrecorded=pipeline.unrecorded(),
            sensor=daemon.handshakes.told(),
            unapplied=pipeline.unapplied(),
            let_go=pipeline.counts.let_go,
            errors=pipeline.counts.errors,
            decisions=pipeline.counts.decisions,
            decided_in=pipeline.counts.decided,
            enforced_in=pipeline.counts.enforced,
        )

    def _top(self, request: protocol.Top, _peer: Peer) -> TopResult:
        engine, moment = self._daemon.pipeline.engine, now()
        store = self._daemon.store
        worst = engine.worst(request.max, moment.boot)
        pasts = store.past([(client, meter.scope) for client, meter in worst], moment.wall)
        rows = [Worst(c, _meter(m), pasts[c, m.scope].action) for c, m in worst]
        return TopResult(moment.wall, self.status(), rows, store.decisions("", request.max))

    def _list(self, request: protocol.List, _peer: Peer) -> ListResult:
        moment = now()
        store = self._daemon.store
        what = Filter(request.scope, request.action, request.limit, request.within)
        rows = store.snapshots(moment.wall, what, request.sort, request.max)
        self._count(rows)
        rows = store.snapshots(moment.wall, what, request.sort, request.max)
        return ListResult(rows, store.total(moment.wall, what))

    def _count(self, rows: Sequence[Snapshot]) -> None:
        """Let the store know what the kernel has counted for these rows."""
        wanted = [Entry(row.subject, row.scope, row.action, 0.0) for row in rows]
        if wanted:
            try:
                self._daemon.store.packets(self._daemon.backend.lookup(wanted))
            except (BackendError, StoreError) as error:
                log.warning("packet counters are not up to date: %s", error.message)

    async def _explain(self, subject: str) -> ExplainResult:
        daemon = self._daemon
        moment = now()
        engine, ladder = daemon.pipeline.engine, daemon.pipeline.ladder
        network = "" if address.is_network(subject) else address.network_of(subject)
        self._count(self._active(subject))
        active = [*self._active(subject), *(self._active(network) if network else ())]
        decisions = daemon.store.decisions(subject)
        pasts = daemon.store.past([(subject, scope) for scope in SCOPES], moment.wall)
        past = max(pasts.values(), key=lambda known: (known.action == "ban", known.offences))
        lines = engine.lines(subject) or next((d.lines for d in decisions if d.lines), ())
        meters = [_meter(meter) for meter in engine.meters(subject, moment.boot)]
        protected = ladder.protection.reason(subject)
        return ExplainResult(
            subject=subject,
            network=network,
            protected=protected,
            active=active,
            meters=meters,
            sessions=engine.sessions(subject),
            lines=await self._read_back(lines),
            decisions=decisions,
            past=past,
            allowed=[row for row in self._allowed() if address.inside(subject, row.what)],
            next=_next(protected, active, meters, ladder.next_ban(past, moment.wall)),
            hint="" if protected else health_check_hint(engine, subject, moment.boot),
        )

    def _active(self, subject: str) -> list[Snapshot]:
        try:
            return self._daemon.store.snapshots(now().wall, Filter(subject=subject))
        except StoreError as error:  # what an operator does goes on without it
            log.error("%s. %s", error.message, error.hint)
            return []

    async def _read_back(self, lines: Sequence[Line]) -> list[LogText]:
        """Read lines back from the logs; in a thread, as a compressed log takes its time."""
        by_source: dict[int, list[int]] = {}
        for line in lines:
            by_source.setdefault(line.source, []).append(line.offset)
        parse = self._daemon.pipeline.parser.event
        texts = []
        for source, offsets in by_source.items():
            file = self._daemon.store.source_file(source)
            if file is None:
                continue
            try:
                found = await asyncio.to_thread(lines_at, *file, offsets)
            except SourceError:  # the journal is gone: what counted is known, not how it read
                found = [None] * len(offsets)
            for offset, text in zip(offsets, found, strict=True):
                event = parse(text) if text else None
                texts.append(LogText(event.time if event else 0.0, file[0], offset, text or ""))
        return texts

    def _allowed(self) -> list[AllowRow]:
        return [
            AllowRow(row.what, row.since, row.until or None, row.note)
            for row in self._daemon.store.allowed(now().wall)
        ]

    def _changes(self, request: protocol.Audit, _peer: Peer) -> AuditResult:
        since = now().wall - request.seconds if request.seconds else 0.0
        return AuditResult(self._daemon.store.changes(since, request.subject, request.max))

    # Changing

    def _punish(
        self,
        action: Literal["throttle", "ban"],
        request: protocol.Ban | protocol.Throttle,
        peer: Peer,
    ) -> ChangeResult:
        daemon, subject = self._daemon, request.subject
        scopes = SCOPES if request.scope is None else (request.scope,)
        entry = protocol.Entered(subject, action, request.scope, request.seconds, request.why)
        refused = imports.punish(daemon, [entry], peer, now())
        if refused:
            raise refused[0]
        wanted = [Entry(subject, scope, action, 0.0) for scope in scopes]
        held = imports.held(daemon, wanted) or ()
        rows = [row for row in self._active(subject) if row.scope in scopes]
        return ChangeResult(rows, len(held) == len(scopes), f"{subject}: {action} in force")

    def _unban(self, request: protocol.Unban, _peer: Peer) -> ChangeResult:
        daemon, subject = self._daemon, request.subject
        moment = now()
        scopes = SCOPES if request.scope is None else (request.scope,)
        rows = [row for row in self._active(subject) if row.scope in scopes]
        entries = [Entry(subject, scope, action, 0.0) for scope in scopes for action in ACTIONS]
        was_held = imports.held(daemon, entries)
        exempt = moment.wall + request.exempt if request.exempt else 0.0
        later = ""
        try:
            daemon.pipeline.free(subject, request.scope, moment, exempt)
        except StoreError as error:  # a full disk must not keep anybody banned
            later = _later(error)
        daemon.pipeline.apply(entries, moment)
        if not rows and was_held == [] and not request.exempt:
            raise RefusedError(
                f"{subject} is neither throttled nor banned", _other(daemon, subject)
            )
        confirmed = imports.held(daemon, entries) == []
        told = f"{subject} is free"
        if request.exempt:
            told += f", and exempt for {Duration(request.exempt)}"
            if address.is_network(subject):
                told += f"; its addresses are judged one by one, `throttled allow {subject}`"
                told += " spares them all"
        network = "" if address.is_network(subject) else address.network_of(subject)
        if network and self._active(network):
            told += f"; but {network} is in force: see `throttled explain {subject}`"
        return ChangeResult(rows, confirmed, told + later)

    async def _unban_all(self, request: protocol.UnbanAll) -> ChangeResult:
        pipeline = self._daemon.pipeline
        if request.scope is not None:
            told = await self._release(request.scope)
        else:
            try:
                told = f"{pipeline.free('', None, now())} freed"
            except StoreError as error:
                told = f"all freed{_later(error)}"
            pipeline.flush(self._daemon.guard.repair, now())
        return ChangeResult([], pipeline.backend_fault is None, told)

    async def _release(self, scope: Scope) -> str:
        """Take everything in a scope out of force, in pieces; tell how many that were."""
        pipeline = self._daemon.pipeline
        count, later = 0, ""
        try:
            for entries in pipeline.store.take(scope, _PIECE):
                imports.remove(self._daemon, entries)
                count += len(entries)
                await asyncio.sleep(0)
        except StoreError as error:
            log.error("%s. %s", error.message, error.hint)
            later = "; found in the kernel, as the store failed"
        # What could not be recorded meanwhile is in the kernel alone.
        alone = bool(later) or pipeline.unrecorded() > 0
        try:
            pipeline.free("", scope, now())
        except StoreError as error:
            alone, later = True, _later(error)
        if alone:
            held = []
            dump = self._daemon.backend.dump()
            while piece := list(islice(dump, _PIECE)):
                held += [s for s in piece if s.scope == scope and s.action != "exempt"]
                await asyncio.sleep(0)
            for at in range(0, len(held), _PIECE):
                imports.remove(self._daemon, held[at : at + _PIECE])
                await asyncio.sleep(0)
            count += len(held)
        return f"{count} freed{later}"

    async def _allow(self, request: protocol.Allow) -> ChangeResult:
        daemon, what = self._daemon, request.what
        imports.allow(daemon, what, request.seconds, request.note, now())
        daemon.apply_configuration()
        freed = await imports.free_within(daemon, what)
        return ChangeResult(freed, daemon.pipeline.backend_fault is None, f"{what} is allowed")

    def _disallow(self, request: protocol.Disallow, _peer: Peer) -> ChangeResult:
        daemon = self._daemon
        if not daemon.store.disallow(request.what):
            raise RefusedError(
                f"{request.what} was not allowed by hand",
                "see `throttled allow`; what the file allows is in its [protect]",
            )
        daemon.apply_configuration()
        confirmed = daemon.pipeline.backend_fault is None
        return ChangeResult([], confirmed, f"{request.what} is no longer allowed")


def _later(error: StoreError) -> str:
    """Say what it means that somebody was freed and the store could not be told."""
    log.error("%s; who was freed is recorded later. %s", error.message, error.hint)
    return f"; but the store fails ({error.message}): told later, not if the daemon ends before"


def _meter(meter: Meter) -> MeterRow:
    soft, hard = meter.soft or None, meter.hard or None
    return MeterRow(
        meter.limit, meter.scope, meter.value, soft, hard, meter.within, kernel=meter.kernel
    )


def _tail(follower: Follower) -> TailStatus:
    state = follower.tail.state()
    return TailStatus(
        path=follower.path,
        exists=state.exists,
        lag=state.lag,
        lines=state.lines,
        lines_per_second=follower.rate,
        last_line=state.last_line,
        problems=[follower.problem] if follower.problem else [],
        cut=state.over_long,
    )


def _other(daemon: "Daemon", subject: str) -> str:
    """Say what else may stand in the way of somebody who seems banned."""
    network = "" if address.is_network(subject) else address.network_of(subject)
    if network and daemon.store.total(now().wall, Filter(within=network)):
        return f"something in {network} is: see `throttled list {network}`"
    return "nothing to do; `throttled explain` shows what is known of it"


def _next(
    protected: str, active: Sequence[Snapshot], meters: Sequence[MeterRow], ban: float
) -> str:
    """Say what would happen next to a subject."""
    if protected:
        return f"nothing: {protected}"
    for row in active:
        if row.action == "ban":
            return "the ban ends in a throttle; another ban would be longer"
    nearest: tuple[float, str] = (0.0, "")
    for meter in meters:
        for threshold, word in ((meter.soft, "throttled"), (meter.hard, "banned")):
            if threshold is None or not 0 < meter.value <= threshold:
                continue
            left = threshold - meter.value + 1
            length = f" for {Duration(ban)}" if word == "banned" else ""
            text = (
                f"{word} in {meter.scope}{length} after {left} more on limit {meter.limit} "
                f"({meter.value} of {threshold} within {Duration(meter.within)})"
            )
            nearest = max(nearest, (meter.value / threshold, text))
    return nearest[1] or "nothing: it did nothing that counts"
