"""`status`: the state of the daemon; without one, what is stored and what is in the kernel."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice

from msgspec.structs import replace

from throttled import __version__
from throttled.clock import Moment
from throttled.control.requests import Status
from throttled.control.results import PatternStatus, StatusResult, TailStatus, Totals
from throttled.control.server import Peer
from throttled.errors import BackendError, StoreError
from throttled.host.on_hold import OnHold
from throttled.model import SCOPES, Action, Finding, Scope
from throttled.operator.desk import Desk, Running
from throttled.operator.totals import days
from throttled.sources.logs import Follower

#: Without a daemon, more entries than these are judged by a sample.
_COMPARED = 100_000
_SAMPLE = 1_000
#: Seconds after its deadline that a message may be on hold, at a low rate; messages counted.
_LATE, _COUNTED = 3600.0, 1_000


def status(desk: Desk, _request: Status | None = None, _peer: Peer | None = None) -> StatusResult:
    """Return the state of the daemon."""
    pipeline, running = desk.pipeline, desk.running
    health = running.findings() if running else [_not_running()]
    counts = _counts(desk, health)
    on_hold = OnHold(desk.config().database())
    health.extend(_on_hold(on_hold, desk.clock().wall))
    desired = 0 if desk.observing else sum(counts.values())
    sizes = pipeline.engine.sizes()
    enforced, counted, dropped = _kernel(desk, counts, desired, health)
    result = StatusResult(
        version=__version__,
        backend=desk.backend.name,
        mode=desk.config().mode,
        pid=0,
        started=0.0,
        uptime=0.0,
        tails=[],
        clients=sizes["clients"],
        max_clients=desk.config().max_clients,
        throttled={scope: counts.get((scope, "throttle"), 0) for scope in SCOPES},
        banned={scope: counts.get((scope, "ban"), 0) for scope in SCOPES},
        exempt={scope: counts.get((scope, "exempt"), 0) for scope in SCOPES},
        packets_dropped=dropped,
        desired=desired,
        enforced=enforced,
        counted=counted,
        health=health,
        events=dict(pipeline.counts.events),
        lines=pipeline.counts.lines,
        lines_lost=pipeline.counts.lines_lost,
        forgotten=sizes["dropped"],
        unrecorded=pipeline.recorder.pending(),
        skipped=pipeline.skipped_by_kind(),
        answers=dict(pipeline.counts.answers),
        unapplied=pipeline.enforcer.pending(),
        let_go=pipeline.recorder.given_up + pipeline.enforcer.given_up,
        errors=pipeline.errors(),
        decisions=pipeline.counts.decisions,
        decided_in=pipeline.counts.decided,
        enforced_in=pipeline.counts.enforced,
        on_hold=on_hold.count(),
        days=_days(desk),
    )
    return _of_daemon(result, running, desk.clock()) if running else result


def _of_daemon(result: StatusResult, running: Running, moment: Moment) -> StatusResult:
    """Return the state with what only a running daemon knows."""
    return replace(
        result,
        pid=os.getpid(),
        started=running.started.wall,
        uptime=moment.boot - running.started.boot,
        tails=[_tail(follower) for follower in running.logs.followers],
        patterns=[
            PatternStatus(text, len(scan.files), scan.total)
            for text, scan in running.logs.patterns.scans().items()
        ],
        ports=running.reconciler.ports,
        sensor=running.handshakes.finding(),
        backlog=running.backlog.progress,
        errors=result.errors + running.loop_errors(),
        overload=running.overload(),
    )


def _on_hold(on_hold: OnHold, wall: float) -> Iterator[Finding]:
    """Yield that mail on hold is not released: nothing else would release it."""
    if left := on_hold.left(wall):
        what = f"messages that stay on hold, as their queue file is not as recorded: {len(left):,}"
        hint = f"mailq; if these are not meant to be: throttled mail release --id {left[0]}"
        yield Finding("warning", what, hint, "on-hold-left")
    late = sum(held.deadline + _LATE < wall for held in islice(on_hold.all(), _COUNTED))
    if late:
        what = f"messages on hold that should be released by now: {late:,}"
        hint = "systemctl status throttled-release.path; or: throttled mail release --due"
        yield Finding("warning", what, hint, "on-hold")


def _not_running() -> Finding:
    hint = "see: systemctl status throttled; start it: systemctl restart throttled"
    return Finding("fault", "the daemon does not answer: new offenders are not blocked", hint)


def _counts(desk: Desk, health: list[Finding]) -> Mapping[tuple[Scope, Action], int]:
    """Return what is active; nothing, and one more finding, where the store cannot be read."""
    try:
        return desk.store.active.counts(desk.clock().wall)
    except StoreError as error:
        if all(finding.key != "store-unread" for finding in health):
            health.append(Finding("fault", error.message, error.hint, "store-unread"))
        return {}


def _days(desk: Desk) -> list[Totals]:
    """Return the totals of yesterday and today; none where the store cannot be read."""
    try:
        return days(desk)
    except StoreError:  # `_counts` reports it
        return []


def _kernel(
    desk: Desk, counts: Mapping[tuple[Scope, Action], int], desired: int, health: list[Finding]
) -> tuple[int, bool, int]:
    """Return how many entries the kernel holds, whether they were counted, and packets dropped."""
    if desk.running is not None:
        enforced, counted = (
            (0, False) if desk.observing else desk.running.reconciler.sampler.enforced(counts)
        )
        return enforced, counted, desk.running.reconciler.dropped()
    backend, wall = desk.backend, desk.clock().wall
    enforced, dropped, counted = 0, 0, desired <= _COMPARED
    try:
        dropped = backend.dropped()
        if desired and counted:
            enforced = sum(
                len(backend.lookup(entries)) for entries in desk.store.active.entries(wall)
            )
        elif desired:
            some = desk.store.active.sample(wall, _SAMPLE)
            enforced = desired * len(backend.lookup(some)) // max(1, len(some))
    except BackendError as error:
        health.append(Finding("fault", error.message, error.hint))
    return enforced, counted, dropped


def _tail(follower: Follower) -> TailStatus:
    state = follower.tail.state()
    return TailStatus(
        path=follower.path,
        exists=state.exists,
        lag=state.lag,
        lines=state.lines,
        lines_per_second=follower.rate,
        last_line=state.last_line,
        problems=follower.errors(),
        cut=state.over_long,
    )
