"""What operators ask of the running daemon: each request and its result.

A change is recorded, applied and then looked up in the kernel before it is answered. Owns nothing:
it reads and steers the daemon that made it.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from throttled import __version__, address
from throttled.clock import now
from throttled.control import protocol
from throttled.control.protocol import (
    OBSERVED,
    AllowedResult,
    AllowRow,
    AuditResult,
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
from throttled.decide.ladder import OPERATOR
from throttled.decide.limits import Meter
from throttled.errors import BackendError, SourceError, StoreError
from throttled.health.probes.firewall import prove
from throttled.model import (
    SCOPES,
    Entry,
    Line,
    Problem,
    Snapshot,
)
from throttled.operator import bulk as imports
from throttled.operator.changes import Changes, active
from throttled.settings import Duration
from throttled.sources.logs import Follower
from throttled.store.store import Filter
from throttled.tail.readback import lines_at

if TYPE_CHECKING:
    from throttled.service.daemon import Daemon


log = logging.getLogger(__name__)


class Operations:
    """Answers requests."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        changes = Changes(daemon)
        self._actions: dict[type, Callable[[Any, Peer], Result | Awaitable[Result]]] = {
            protocol.Ping: lambda _request, _peer: Done(),
            protocol.Status: lambda _request, _peer: self.status(),
            protocol.Prove: self._prove,
            protocol.Top: self._top,
            protocol.List: self._list,
            protocol.Explain: self._explain,
            protocol.Allowed: lambda _request, _peer: AllowedResult(self._allowed()),
            protocol.Audit: self._changes,
            protocol.Ban: partial(changes.punish, "ban"),
            protocol.Throttle: partial(changes.punish, "throttle"),
            protocol.Unban: changes.unban,
            protocol.UnbanAll: changes.unban_all,
            protocol.Allow: changes.allow,
            protocol.Resolve: changes.resolve,
            protocol.Disallow: changes.disallow,
            protocol.Import: partial(imports.bring, daemon),
            protocol.AddHost: self._add_host,
            protocol.Reload: self._reload,
            protocol.Reach: self._reach,
        }

    async def handle(self, request: Request, peer: Peer) -> Result:
        """Do what is asked.

        Raises:
            ThrottledError: it cannot be done; says why.
        """
        done = self._actions[type(request)](request, peer)
        result = await done if isinstance(done, Awaitable) else done
        if self._daemon.observing and isinstance(result, OBSERVED):
            return replace(result, would=True)
        return result

    async def _reload(self, _request: protocol.Reload, _peer: Peer) -> Done:
        return Done(await self._daemon.reload())

    async def _reach(self, _request: protocol.Reach, _peer: Peer) -> Done:
        return Done(await self._daemon.hook.reach())

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
        enforced, counted, desired = 0, False, 0
        try:
            counts = daemon.store.counts(moment.wall)
            if not daemon.observing:  # else nothing should be in the kernel
                desired = sum(counts.values())
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
            desired=desired,
            enforced=enforced,
            counted=counted,
            health=health,
            events=dict(pipeline.counts.events),
            lines=pipeline.counts.lines,
            lines_lost=pipeline.counts.lines_lost,
            forgotten=sizes["dropped"],
            unrecorded=pipeline.recorder.waiting(),
            ports=daemon.guard.ports,
            sensor=daemon.handshakes.told(),
            skipped=pipeline.skipped_by_kind(),
            backlog=daemon.backlog.told,
            unapplied=pipeline.enforcer.waiting(),
            let_go=pipeline.recorder.given_up + pipeline.enforcer.given_up,
            errors=pipeline.errors(),
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
        page = moment.wall, what, request.sort, request.max, request.after
        rows, _ = store.page(*page)
        self._count(rows)
        rows, after = store.page(*page)
        total = 0 if request.after else store.total(moment.wall, what)
        if request.limit is not None and not request.after and not total:
            protocol.refuse_unknown_limit(request.limit, self._daemon.config.limits)
        return ListResult(rows, total, next=after)

    def _count(self, rows: Sequence[Snapshot]) -> None:
        """Let the store know what the kernel has counted for these rows."""
        wanted = [Entry(row.subject, row.scope, row.action, 0.0) for row in rows]
        if wanted:
            try:
                self._daemon.store.packets(self._daemon.backend.lookup(wanted))
            except (BackendError, StoreError) as error:
                log.warning("packet counters are not up to date: %s", error.message)

    async def _explain(self, request: protocol.Explain, _peer: Peer) -> ExplainResult:
        daemon, subject = self._daemon, request.subject
        moment = now()
        engine, ladder = daemon.pipeline.engine, daemon.pipeline.ladder
        network = "" if address.is_network(subject) else address.network_of(subject)
        self._count(active(daemon, subject))
        rows = [*active(daemon, subject), *(active(daemon, network) if network else ())]
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
            active=rows,
            meters=meters,
            sessions=engine.sessions(subject),
            lines=await self._read_back(lines),
            decisions=decisions,
            past=past,
            allowed=[row for row in self._allowed() if address.inside(subject, row.what)],
            next=_next(
                protected,
                rows,
                meters,
                ladder.next_ban(past, moment.wall),
                "would be " if daemon.observing else "",
            ),
            hint="" if protected else engine.checks.hint(subject, moment.boot),
        )

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
        return [imports.allow_row(row) for row in self._daemon.store.allowed(now().wall)]

    def _changes(self, request: protocol.Audit, _peer: Peer) -> AuditResult:
        since = now().wall - request.seconds if request.seconds else 0.0
        return AuditResult(self._daemon.store.changes(since, request.subject, request.max))

    def _prove(self, _request: protocol.Prove, _peer: Peer) -> Done:
        backend = self._daemon.backend
        if not backend.intact():
            hint = "they are restored within seconds; if this lasts see: throttled status"
            raise BackendError("the rules in the kernel are not those that were installed", hint)
        return Done(prove(backend))

    def _add_host(self, request: protocol.AddHost, _peer: Peer) -> Done:
        self._daemon.store.add_host(request.name, now().wall)
        self._daemon.protect()
        return Done(f"the lines of {request.name} count")


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
        problems=follower.problems(),
        cut=state.over_long,
    )


def _next(
    protected: str,
    active: Sequence[Snapshot],
    meters: Sequence[MeterRow],
    ban: float,
    would: str,
) -> str:
    """Say what would happen next to a subject; `would` precedes what only would."""
    if protected:
        return f"nothing: {protected}"
    for row in active:
        if row.action == "ban":
            stated = row.limit == OPERATOR and not row.level
            ends = "the ban ends" if stated else "the ban ends in a throttle"
            return f"{ends}; another ban would be longer"
    nearest: tuple[float, str] = (0.0, "")
    for meter in meters:
        for threshold, word in ((meter.soft, "throttled"), (meter.hard, "banned")):
            if threshold is None or not 0 < meter.value <= threshold:
                continue
            left = threshold - meter.value + 1
            length = f" for {Duration(ban)}" if word == "banned" else ""
            text = (
                f"{would}{word} in {meter.scope}{length} after {left} more "
                f"on limit {meter.limit} "
                f"({meter.value} of {threshold} within {Duration(meter.within)})"
            )
            nearest = max(nearest, (meter.value / threshold, text))
    return nearest[1] or "nothing: no counted offences"
