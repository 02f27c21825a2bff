"""`list` and `preview`: what is active, page by page."""

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from throttled import address
from throttled.control.requests import List
from throttled.control.results import ListResult
from throttled.control.server import Peer
from throttled.decide.listed import origin as of_list
from throttled.errors import BackendError, StoreError
from throttled.model import Entry, Snapshot
from throttled.operator.desk import Desk
from throttled.operator.fleet import peers
from throttled.operator.senders import refuse_invisible, visible, without_names
from throttled.operator.unknown import (
    refuse_unknown_limit,
    refuse_unknown_list,
    refuse_unknown_peer,
)
from throttled.store.store import Filter

log = logging.getLogger(__name__)


def active_rows(desk: Desk, request: List, peer: Peer) -> ListResult:
    """Return a page of what is active.

    Raises:
        UsageError: there is no such limit.
        RefusedError: there is no such host in the fleet, or nothing is active from such a list.
        NotPermittedError: it asks about an account, which is for root alone.
        StoreError: the store cannot be read.
    """
    if request.within is not None and address.is_named(request.within):
        refuse_invisible(desk, peer)
    wall = desk.clock().wall
    origin = None if request.peer is None else f"peer:{request.peer}"
    if request.name:
        origin = of_list(request.name)
    if request.proxied:
        found = _proxied(desk, request, origin, wall)
    else:
        found = _page(desk, request, origin, peer, wall)
    if not request.after and not found.total:
        _refuse_unknown(desk, request, wall)
    return found


def _page(desk: Desk, request: List, origin: str | None, peer: Peer, wall: float) -> ListResult:
    """Return a page of what the store has."""
    since = None if request.seconds is None else wall - request.seconds
    asked = request.scope, request.action, request.limit, request.within
    what = Filter(*asked, origin=origin, since=since)
    page = wall, what, request.sort, request.max, request.after
    rows, after = desk.store.listing.page(*page)
    if count_packets(desk, rows):
        rows, after = desk.store.listing.page(*page)
    name = desk.pipeline.engine.name
    rows = [row if row.name else replace(row, name=name(row.subject)) for row in rows]
    if not visible(desk, peer):
        rows = without_names(rows)
    total = 0 if request.after else desk.store.listing.total(wall, what)
    return ListResult(rows, total, next=after)


def _refuse_unknown(desk: Desk, request: List, wall: float) -> None:
    """Refuse a request that found nothing because of a name that there is not.

    Raises:
        UsageError: there is no such limit.
        RefusedError: there is no such host in the fleet, or nothing is active from such a list.
    """
    if request.limit is not None:
        refuse_unknown_limit(request.limit, desk.config().limits)
    if request.peer is not None:
        refuse_unknown_peer(request.peer, peers(desk))
    if request.name and not request.new:
        refuse_unknown_list(request.name, desk.store.claims.names(wall))


def _proxied(desk: Desk, request: List, origin: str | None, wall: float) -> ListResult:
    """Return what would be active against clients behind a proxy: in one page, newest first."""
    rows = [
        row
        for row in desk.pipeline.behind.active(wall, request.within or "")
        if request.scope in (None, row.scope)
        and request.action in (None, row.action)
        and request.limit in (None, row.limit)
        and origin in (None, row.origin)
        and row.since >= wall - (request.seconds or wall)
    ]
    rows.sort(key=lambda row: -row.since)
    return ListResult(rows[: request.max], len(rows), would=True)


def count_packets(desk: Desk, rows: Sequence[Snapshot]) -> bool:
    """Record what the kernel has counted for these rows; return whether that was done.

    Without a daemon the store is not written by who only looks.
    """
    wanted = [
        Entry(row.subject, row.scope, row.action, 0.0)
        for row in rows
        if desk.enforceable(row.subject)
    ]
    if not wanted or desk.running is None:
        return False
    try:
        desk.store.active.packets(desk.backend.lookup(wanted))
    except (BackendError, StoreError) as error:
        log.warning("packet counters are not up to date: %s", error.message)
        return False
    return True
