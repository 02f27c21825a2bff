"""`unban --all`: every throttle and ban, or those of one scope."""

import asyncio
import logging
from itertools import islice

from throttled.control.requests import UnbanAll
from throttled.control.results import ChangeResult
from throttled.control.server import Peer
from throttled.core.outbox import CLEARED, CLEARING, unbanned_all_offline
from throttled.errors import StoreError
from throttled.model import RESTRICTING, Entry, Scope
from throttled.operator.desk import Desk
from throttled.operator.unban import releases, unrecorded

log = logging.getLogger(__name__)

_LATER = "once the daemon runs "
#: Entries between two iterations of the event loop.
_PIECE = 1000
#: Entries of which the journal gets a line; the audit line has the number of all.
_LOGGED = 100
_ALL = "0.0.0.0/0", "::/0"


async def unban_all(desk: Desk, request: UnbanAll, _peer: Peer) -> ChangeResult:
    """Unban all subjects.

    Raises:
        BackendError: without a daemon: the kernel refused.
    """
    await desk.remove_leftovers()
    left = 0
    if request.scope is not None:
        message, left = await _release(desk, request.scope)
    else:
        message = _flush(desk)
    if desk.error is not None:
        return ChangeResult([], False, f"not unbanned in the kernel: {desk.refusal()}")
    if desk.leftover is not None:
        return ChangeResult([], False, f"{message}, but {desk.leftover.what}")
    if left:
        return ChangeResult([], False, f"{message}, but the kernel still has {left} elements")
    message += _shared(desk, request.scope)
    if desk.observing:
        message += " (would-be throttles and bans); observing, nothing is enforced"
    return ChangeResult([], True, message)


def _shared(desk: Desk, scope: Scope | None) -> str:
    """Let the other hosts of the fleet know; return what becomes of it there, as a sentence."""
    if desk.unusable is not None:
        return ""
    try:
        if desk.running is None:
            settings, wall = desk.config().fleet, desk.clock().wall
            shared, when = unbanned_all_offline(desk.store, settings, scope, wall), _LATER
        else:
            fleet = desk.running.fleet()
            shared = fleet is not None and fleet.outbox.unbanned_all(scope, desk.clock())
            when = ""
    except StoreError as error:
        return f"; the fleet does not hear of it: {error.message}"
    if not shared:
        return ""
    return f"; {when}the other hosts of the fleet unban {CLEARED} of them in {CLEARING:.0f} s"


def _flush(desk: Desk) -> str:
    """Remove all entries at once; return how many were unbanned, as a sentence."""
    later = unrecorded(desk, desk.unusable)
    count, first = 0, _first(desk)
    try:
        count = desk.pipeline.unban("", None, desk.clock())
    except StoreError as error:
        later = unrecorded(desk, error)
    if desk.running is None:  # the daemon's next start makes the rules again
        desk.backend.teardown()
    else:
        desk.pipeline.flush(desk.running.reconciler.repair, desk.clock())
    desk.announce(releases(first, desk.clock().wall), notice=False)
    return f"all unbanned{later}" if later else f"{count} unbanned"


def _first(desk: Desk) -> list[tuple[str, Scope]]:
    """Return the latest throttles and bans, of which the journal gets a line."""
    try:
        rows = desk.store.listing.snapshots(desk.clock().wall, count=_LOGGED)
    except StoreError:  # the unban itself reports it
        return []
    return [(row.subject, row.scope) for row in rows if row.action in RESTRICTING]


async def _release(desk: Desk, scope: Scope) -> tuple[str, int]:
    """Unban all in a scope, in pieces; return how many that were, and how many the kernel kept."""
    count, later = 0, ""
    try:
        for entries in desk.store.unbans.unban_scope(scope, _PIECE):
            desk.remove(entries)
            first = [(entry.subject, scope) for entry in entries[: max(0, _LOGGED - count)]]
            desk.announce(releases(first, desk.clock().wall), notice=False)
            count += len(entries)
            await asyncio.sleep(0)
    except StoreError as error:
        log.error("%s. %s", error.message, error.hint)
        later = "; read from the kernel, because the database failed"
    # Entries that could not be recorded meanwhile are in the kernel alone.
    alone = bool(later) or desk.running is None or desk.pipeline.recorder.pending() > 0
    later = unrecorded(desk, desk.unusable) or later
    exempted: list[str] = []
    try:
        wall = desk.clock().wall
        exempted = [s for all_ in _ALL for s in desk.store.exempted(all_, scope, wall)]
        desk.pipeline.unban("", scope, desk.clock())
    except StoreError as error:
        alone, later = True, unrecorded(desk, error)
    ends = [Entry(subject, scope, "exempt", 0.0) for subject in exempted]
    desk.pipeline.enforcer.apply(ends, desk.clock())
    left = 0
    if alone:
        found, left = await _remove_found(desk, scope)
        count += found
    return f"{count} unbanned{later}", left


async def _remove_found(desk: Desk, scope: Scope) -> tuple[int, int]:
    """Remove what the kernel holds in a scope; return how many entries, and how many it kept.

    It is read to its end first: a dump is not to be disturbed by our own changes.
    """
    elements = []
    dump = desk.backend.dump()
    while piece := list(islice(dump, _PIECE)):
        elements += [s for s in piece if s.scope == scope and s.action in RESTRICTING]
        await asyncio.sleep(0)
    for at in range(0, len(elements), _PIECE):
        desk.remove(elements[at : at + _PIECE])
        await asyncio.sleep(0)
    # The daemon knows of what the kernel refused; without one it is looked for.
    entries = [Entry(s.subject, s.scope, s.action, 0.0) for s in elements]
    return len(elements), 0 if desk.running else len(desk.backend.lookup(entries))
