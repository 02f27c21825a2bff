"""What is active inside a network, for `explain`. Owns no state."""

import asyncio
from heapq import nlargest

from throttled import address
from throttled.control.results import Inside
from throttled.model import Action
from throttled.operator.desk import Desk

#: Entries that are named.
_SHOWN = 5
#: Rows between two iterations of the event loop: some milliseconds.
_CHUNK = 1000


async def inside(desk: Desk, network: str) -> Inside:
    """Return what is active inside a network; nothing of an address.

    Reads all entries whose text begins as the network does, in pieces: a second for a million.

    Raises:
        StoreError: the store cannot be read.
    """
    found = Inside()
    if not address.is_network(network):
        return found
    subjects: dict[Action, set[str]] = {}
    for rows in desk.store.listing.inside(network, desk.clock().wall, _CHUNK):
        within = [row for row in rows if row.subject != network]
        for row in within:
            subjects.setdefault(row.action, set()).add(row.subject)
        found.latest = nlargest(_SHOWN, [*found.latest, *within], key=lambda row: row.since)
        await asyncio.sleep(0)
    found.counts = {action: len(each) for action, each in sorted(subjects.items())}
    return found
