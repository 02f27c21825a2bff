"""`top`: the worst clients and the latest decisions."""

from throttled.control.protocol import Top, TopResult, Worst
from throttled.control.server import Peer
from throttled.operator.desk import Desk
from throttled.operator.explain import meter_row
from throttled.operator.status import status


def top(desk: Desk, request: Top, _peer: Peer) -> TopResult:
    """Return the state of the daemon with the clients nearest to a threshold.

    Raises:
        StoreError: the store cannot be read.
    """
    moment = desk.clock()
    worst = desk.pipeline.engine.worst(request.max, moment.boot)
    pasts = desk.store.past([(client, meter.scope) for client, meter in worst], moment.wall)
    rows = [Worst(c, meter_row(m), pasts[c, m.scope].action) for c, m in worst]
    return TopResult(moment.wall, status(desk), rows, desk.store.decisions("", request.max))
