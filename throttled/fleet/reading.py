"""Reads the streams of peers, some entries at a time, however long what the server sends is.

A reply is bounded by what its entries may have. After one that is longer each stream is read alone,
and the one with an entry that is too long is passed over for `PASSED_OVER`. What a reply has beyond
a message to the daemon is kept for the next ones.

Owns which streams are read, how far they were, and at most `_PIECE` entries.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from throttled.fleet import bounded, connect, wire
from throttled.fleet.bounded import TooLongError
from throttled.fleet.connect import text
from throttled.fleet.frames import Entry

_BLOCK = 5.0  # seconds, less than `connect.BLOCKED`
#: Seconds that the daemon may take to record entries before those of other peers are read.
_TAKING = 0.005
_SHORT = 10  # milliseconds that such a read waits
_PIECE = 128  # entries in one answer, of all peers; peers that are read at once
#: Milliseconds that a read waits where there are more peers: then the others are read.
_NEXT = 250
_MESSAGE = 450_000  # bytes of entries in a message to the daemon: 10,000 bans, which it sorts
_HEAD = 8  # bytes around a text or bytes in a message, at most
_ENTRY = wire.BYTES + 1024  # bytes of an entry in a reply, at most
_STREAM = 1024  # bytes of the rest of a stream in a reply, at most
#: Seconds in which a stream, or the list of hosts, is not read after a reply that was too long.
PASSED_OVER = 600.0
_REPORTED = 256  # hosts whose names are passed on
_IDLE = 1.0  # seconds between two pings where there is nothing to wait for


class Reading:
    """The streams of peers, over all connections to the server."""

    def __init__(self) -> None:
        """Read none yet."""
        self._after: dict[str, str] = {}
        self._first = 0  # of the peers that are read next, where these are too many
        self._rest: dict[str, list[Entry]] = {}  # of the latest reply, by peer
        self._busy: set[str] = set()  # peers whose entries the daemon has not recorded yet
        self._changed = asyncio.Event()
        self._too_long: dict[str, float] = {}  # hosts that are passed over; monotonic, until when
        self._suspect = False  # one of the streams that are read has what is too long

    def follow(self, after: Mapping[str, str]) -> None:
        """Read the streams of these peers, and no others, after these ids."""
        self._after = dict(after)
        self._rest.clear()
        self._changed.set()

    def recorded(self, name: str) -> None:
        """Go on with a peer whose entries the daemon has recorded."""
        self._busy.discard(name)
        self._changed.set()

    def names(self) -> list[str]:
        """Return the peers whose streams are read."""
        return list(self._after)

    def pass_over(self, name: str) -> None:
        """Do not read a host's stream for a while: it has an entry that is too long."""
        self._rest.pop(name, None)
        self._too_long[name] = time.monotonic() + PASSED_OVER

    def is_readable(self, name: str) -> bool:
        """Return whether a host's stream is not passed over."""
        return self._too_long.get(name, 0.0) <= time.monotonic()

    def passed_over(self) -> list[str]:
        """Return the hosts whose streams are passed over."""
        return sorted(n for n in self._too_long if not self.is_readable(n))[:_REPORTED]

    async def read(self, site: str, client: Any) -> list[tuple[str, list[Entry]]]:
        """Return the next entries of peers that the daemon is ready for; after a while none.

        Raises:
            TooLongError: a stream has an entry that is too long; it is found after that.
        """
        if self._suspect:
            await self._find_too_long(site, client)
        self._changed.clear()
        wanted = {name for name in self._after if self.is_readable(name)}
        if self._busy & wanted:
            await self._wait(_TAKING)
        ready = wanted & self._after.keys() - self._busy
        if not ready:
            await self._wait(_IDLE)
            await client.ping()
            return []
        if not ready & self._rest.keys():
            block = int(_BLOCK * 1000) if ready == wanted else _SHORT
            await self._fetch(site, client, self._some(ready), block)
        return [(name, self._next(name)) for name in sorted(ready & self._rest.keys())]

    def _some(self, names: set[str]) -> list[str]:
        """Return as many of the peers as are read at once; of more, each in its turn."""
        found = sorted(names)
        if len(found) <= _PIECE:
            return found
        first = self._first % len(found)
        self._first = first + _PIECE
        return [*found[first:], *found[:first]][:_PIECE]

    async def _fetch(self, site: str, client: Any, names: list[str], block: int) -> None:
        """Read the next entries of peers; `block`: milliseconds to wait for the first."""
        if len(names) < len(self._after) and len(names) == _PIECE:
            block = min(block, _NEXT)
        after = {name: self._after[name] for name in names}
        try:
            answer = await self._entries(site, client, after, block)
        except TooLongError:
            self._suspect = True
            raise
        streams = {wire.stream(site, name): name for name in names}
        for stream, entries in answer or ():
            name = streams[text(stream)]
            if entries and self._after.get(name) == after[name]:  # no other `follow` came
                self._rest[name] = list(map(connect.entry, entries))

    def _next(self, name: str) -> list[Entry]:
        """Return as many entries of a peer as a message may have."""
        entries = self._rest.pop(name)
        count = _fitting(entries)
        if count < len(entries):
            self._rest[name] = entries[count:]
        self._after[name] = entries[count - 1][0]
        self._busy.add(name)
        return entries[:count]

    async def _find_too_long(self, site: str, client: Any) -> None:
        """Read each stream alone, and pass over the one that has an entry which is too long."""
        after = {name: place for name, place in self._after.items() if self.is_readable(name)}
        for name, place in after.items():
            try:
                await self._entries(site, client, {name: place}, None)
            except TooLongError:
                self.pass_over(name)
                raise
        self._suspect = False

    async def _entries(
        self, site: str, client: Any, after: Mapping[str, str], block: int | None
    ) -> Any:
        """Return the next entries of peers; `block`: milliseconds to wait for the first."""
        count = max(1, _PIECE // max(1, len(self._after)))
        streams = {wire.stream(site, name): place for name, place in after.items()}
        bounded.limit(client, len(after) * (count * _ENTRY + _STREAM))
        return await client.xread(streams, count=count, block=block)

    async def _wait(self, seconds: float) -> None:
        """Wait for the daemon, at most `seconds`.

        Python 3.11.2's `asyncio.timeout` fails in a task that redis-py 4.3 cancelled for its own.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
        self._changed.clear()


def _fitting(entries: list[Entry]) -> int:
    """Return how many entries a message may have: at least one."""
    size = 0
    for count, each in enumerate(entries):
        size += sum(len(part) + _HEAD for part in each)
        if size > _MESSAGE:
            return count
    return len(entries)
