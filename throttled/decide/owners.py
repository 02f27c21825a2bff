"""Whose the messages in the queue are: a capped table of queue ids. Pure: no clock, no I/O.

Many entries share one `Owner`, so that an entry costs its key and its place. A plain dict keeps the
order of insertion with half the memory of an OrderedDict, but finds its oldest entry only past all
that were deleted before it: so the oldest are evicted by the batch. 200,000 queue ids of 11
characters take 29 MB with their owners, 2,000 accounts; no more after a million evicted ones.
"""

from itertools import islice
from typing import Literal, NamedTuple

#: Owners that entries share.
_SHARED = 50_000
#: The share of the entries that is evicted at once: one in this number.
_BATCH = 64


class Owner(NamedTuple):
    """Whose a message is."""

    subject: str
    counted: bool = False  # whether its recipients are: the first `active` of the first queue id
    domain: str = ""  # of the sender, if hosted here
    #: "here": queued by a client at an address of this host, which may be a content filter.
    #: "again": handed back by a filter; lines of its first queue id may still come. "": settled.
    state: Literal["", "here", "again"] = ""
    #: "asked": Postfix asked about it, its messages and recipients are counted; "early": the same,
    #: and the line that queues it is not read yet.
    asked: Literal["", "early", "asked"] = ""


class Owners:
    """At most `cap` queue ids with their owners."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._owners: dict[str, Owner] = {}
        self._shared: dict[Owner, Owner] = {}
        self.evicted = 0  # entries, at the cap

    def __len__(self) -> int:
        return len(self._owners)

    def get(self, queue_id: str) -> Owner | None:
        """Return whose a message is, if that is known."""
        return self._owners.get(queue_id)

    def clear(self) -> None:
        """Evict everything."""
        self._owners.clear()
        self._shared.clear()

    def pop(self, queue_id: str) -> Owner | None:
        """Remove a queue id; return whose it was."""
        return self._owners.pop(queue_id, None)

    def put(self, queue_id: str, owner: Owner) -> None:
        """Add a queue id as the youngest."""
        owners = self._owners
        owners.pop(queue_id, None)
        if len(owners) >= self._cap:
            oldest = list(islice(owners, max(1, self._cap // _BATCH)))
            for one in oldest:
                del owners[one]
            self.evicted += len(oldest)
        owners[queue_id] = self._share(owner)

    def change(self, queue_id: str, owner: Owner) -> None:
        """Give a known queue id another owner; it stays as old as it is."""
        self._owners[queue_id] = self._share(owner)

    def _share(self, owner: Owner) -> Owner:
        """Return the same object for equal owners: an entry of its own would take 200 bytes."""
        known = self._shared.get(owner)
        if known is None:
            if len(self._shared) >= _SHARED:
                self._shared.clear()
            known = self._shared[owner] = owner
        return known
