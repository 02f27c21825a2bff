"""`top`: the worst clients and the latest decisions."""

from msgspec.structs import replace

from throttled.control.requests import Top
from throttled.control.results import TopResult, Worst
from throttled.control.server import Peer
from throttled.operator.desk import Desk
from throttled.operator.explain import meter_row
from throttled.operator.senders import decisions_without_names, merged, visible, worst
from throttled.operator.status import status
from throttled.operator.totals import hours


def top(desk: Desk, request: Top, peer: Peer) -> TopResult:
    """Return the state of the daemon with the clients and senders nearest to a threshold.

    Raises:
        StoreError: the store cannot be read.
    """
    moment = desk.clock()
    found = desk.pipeline.engine.worst(request.max, moment.boot)
    pasts = desk.store.past([(client, meter.scope) for client, meter in found], moment.wall)
    rows = [Worst(c, meter_row(m), pasts[c, m.scope].action) for c, m in found]
    latest = desk.store.decisions("", request.max)
    if visible(desk, peer):
        rows = merged(rows, worst(desk, request.max), request.max)
    else:
        latest = decisions_without_names(latest)
    rows = [_known(desk, row) for row in rows]
    return TopResult(moment.wall, status(desk), rows, latest, hours(desk))


def _known(desk: Desk, row: Worst) -> Worst:
    """Return a row with its host name, and with why and since when it is throttled or banned."""
    name = desk.pipeline.engine.name(row.subject)
    active = desk.active(row.subject) if row.action else []
    for entry in active:
        if entry.scope == row.meter.scope:
            why = f"{entry.limit}: {entry.why}"
            return replace(row, name=name or entry.name, since=entry.since, why=why)
    return replace(row, name=name)
