"""`list` and `preview`: what is active, page by page."""

import logging
from collections.abc import Sequence

from throttled.control.protocol import List, ListResult, refuse_unknown_limit
from throttled.control.server import Peer
from throttled.errors import BackendError, StoreError
from throttled.model import Entry, Snapshot
from throttled.operator.desk import Desk
from throttled.store.store import Filter

log = logging.getLogger(__name__)


def active_rows(desk: Desk, request: List, _peer: Peer) -> ListResult:
    """Return a page of what is active.

    Raises:
        UsageError: there is no such limit.
        StoreError: the store cannot be read.
    """
    wall = desk.clock().wall
    what = Filter(request.scope, request.action, request.limit, request.within)
    page = wall, what, request.sort, request.max, request.after
    rows, after = desk.store.page(*page)
    if count_packets(desk, rows):
        rows, after = desk.store.page(*page)
    total = 0 if request.after else desk.store.total(wall, what)
    if request.limit is not None and not request.after and not total:
        refuse_unknown_limit(request.limit, desk.config().limits)
    return ListResult(rows, total, next=after)


def count_packets(desk: Desk, rows: Sequence[Snapshot]) -> bool:
    """Record what the kernel has counted for these rows; return whether that was done.

    Without a daemon the store is not written by who only looks.
    """
    wanted = [Entry(row.subject, row.scope, row.action, 0.0) for row in rows]
    if not wanted or desk.running is None:
        return False
    try:
        desk.store.packets(desk.backend.lookup(wanted))
    except (BackendError, StoreError) as error:
        log.warning("packet counters are not up to date: %s", error.message)
        return False
    return True
