"""The daemon's half of the fleet: its connection, which peers are read, what operators want.

What comes in is in `core/inbox.py`, what goes out in `core/outbox.py`. Blocks for as long as SQLite
and the kernel take; what moves the bytes is `service/fleet.py`.

Owns the inbox and the outbox.
"""

import asyncio
import logging
from collections.abc import Callable

from msgspec import MsgspecError, msgpack

from throttled.clock import Moment
from throttled.config.fleet import Fleet as Settings
from throttled.core import extended
from throttled.core.inbox import BEGIN, PEERS, Announce, Inbox, before, stored
from throttled.core.outbox import Outbox
from throttled.core.pipeline import Pipeline
from throttled.core.tried import SharedNames
from throttled.decide.ladder import OPERATOR
from throttled.fleet import wire
from throttled.fleet.frames import Add, Down, Names, Read, Up
from throttled.fleet.wire import Seal
from throttled.model import Decision
from throttled.store.store import Filter, Store, StoredPosition

log = logging.getLogger(__name__)

#: Seconds after which a connection counts as lasting.
_LASTING = 10.0
_PIECE = 1_000  # entries that are removed at once
_DISTRUSTED = "fleet-distrusted"


class Fleet:
    """Peers and the own stream."""

    def __init__(  # noqa: PLR0913 - who, with what, and what follows
        self,
        settings: Settings,
        name: str,
        secret: bytes,
        pipeline: Pipeline,
        *,
        positions: Callable[[], list[StoredPosition]],
        announce: Announce,
        since: float,
    ) -> None:
        """Begin where the store says.

        Args:
            settings: the operator's.
            name: of this host.
            secret: of the fleet.
            pipeline: records and applies.
            positions: how far the logs have been read.
            announce: called with what peers led to.
            since: boot clock, see `SharedNames`.
        """
        self.settings, self.name = settings, name
        self.up: Up | None = None
        self.down: Down | None = None
        self.down_since: float | None = None  # boot clock
        self.crowded = False  # there are more hosts than are read
        self.too_long: list[str] = []  # hosts with an entry longer than any may be: not read
        self._up_since = 0.0  # boot clock
        self._reading: set[str] | None = None  # what the process was asked to read
        self._pipeline = pipeline
        self.names = SharedNames(pipeline, secret, since)
        self.inbox = Inbox(settings, secret, pipeline, self.names, positions, announce)
        self.outbox = Outbox(settings, Seal(secret, settings.site, name), pipeline, self.names)

    @property
    def _store(self) -> Store:
        return self._pipeline.recorder.store

    # The connection

    def connected(self, message: Up, now: Moment) -> None:
        """Take up the own stream where it ends; publish again what the server lost.

        Raises:
            StoreError: the position cannot be read.
        """
        self._reading = None
        if not self.inbox.peers:
            self._known(now)
        self.outbox.connected(message, now)
        self.up, self.down, self._up_since = message, None, now.boot

    def _known(self, now: Moment) -> None:
        """Take up peers that were read before, however many names are announced now."""
        distrusted, peers = self.distrusted(), self.inbox.peers
        for path, position in self._store.positions.all().items():
            fleet, _, name = path.partition(":")
            if fleet == "fleet" and self._wanted(name, distrusted) and len(peers) < PEERS:
                peers[name] = stored(name, position, now)

    def _wanted(self, name: str, distrusted: frozenset[str]) -> bool:
        known = self.settings.peers
        if not wire.is_name(name) or name == self.name or name in distrusted:
            return False
        return known == "any" or name in known

    def lost(self, message: Down, now: Moment) -> None:
        """Note that an entry was refused, or that there is no connection."""
        self.down = message
        self.outbox.lost(now, sent=message.kind in {"unreachable", "process"})
        if message.kind in {"unreachable", "process"}:
            self.up = None
        if self.down_since is None:
            self.down_since = now.boot

    def next(self, now: Moment) -> Add | None:
        """Return the next entry to publish; None: there is nothing, or one is on its way.

        Raises:
            StoreError: the history cannot be read.
        """
        return self.outbox.next(now) if self.up is not None else None

    def added(self, now: Moment) -> None:
        """Note that the entry on its way is in the stream.

        Raises:
            StoreError: that cannot be recorded; after a kill it is published again.
        """
        if self.up is not None and self.down is not None:
            self.down = self.down_since = None  # the server has room again
        self.outbox.added(now)

    def named(self, message: Names, now: Moment) -> Read | None:
        """Return from where on streams are read; None: from where they are read now.

        Raises:
            StoreError: positions cannot be read.
        """
        if self.down is None and now.boot - self._up_since >= _LASTING:
            self.down_since = None  # it stays connected
        peers, distrusted = self.inbox.peers, self.distrusted()
        positions = self._store.positions.all()
        for name, last in message.last.items():
            if not self._wanted(name, distrusted):
                continue
            if name not in peers and len(peers) < PEERS:
                peers[name] = stored(name, positions.get(f"fleet:{name}"), now)
            peer = peers.get(name)
            if peer is None:
                continue
            if before(last, peer.id):
                log.warning("the Redis server lost entries of %s; reading from its first", name)
                peer.id = BEGIN
                self._reading = None
            waiting = bool(peer.last) and before(peer.id, peer.last)
            peer.behind_since = (peer.behind_since or now.boot) if waiting else None
            peer.last = last
        self.crowded = message.crowded
        if message.other is not None:
            self.outbox.seen(message.other, now)
        self.too_long = [n for n in message.too_long if self._wanted(n, distrusted)][:PEERS]
        readable = self._readable(now)
        if readable == self._reading or self.up is None:
            return None
        self._reading = readable
        oldest = f"{max(0, self.up.time - int(self.settings.longest * 1000))}-0"
        after = {n: max(oldest, self.inbox.peers[n].id, key=wire.place) for n in readable}
        return Read(after)

    def _readable(self, now: Moment) -> set[str]:
        return {name for name, peer in self.inbox.peers.items() if peer.paused_until <= now.boot}

    # What operators want

    def distrusted(self) -> frozenset[str]:
        """Return the hosts that are not listened to, whatever the configuration says.

        Raises:
            StoreError: it cannot be read.
        """
        stored = self._store.known.get(_DISTRUSTED)
        try:
            return msgpack.decode(stored or b"\x90", type=frozenset[str])
        except MsgspecError:
            return frozenset()

    def distrust(self, name: str, now: Moment) -> None:
        """Listen to a host no more.

        Raises:
            StoreError: it cannot be recorded.
        """
        names = sorted(self.distrusted() | {name})
        self._store.known.put(_DISTRUSTED, msgpack.encode(names), now.wall)
        self.inbox.peers.pop(name, None)
        self._reading = None

    def trust(self, name: str, now: Moment) -> None:
        """Listen to a host again, and end its brake.

        Raises:
            StoreError: it cannot be recorded.
        """
        names = sorted(self.distrusted() - {name})
        self._store.known.put(_DISTRUSTED, msgpack.encode(names), now.wall)
        self.inbox.judge.release(name)
        self._reading = None  # the process may be ahead: what came meanwhile was not processed

    async def remove(self, name: str, clock: Callable[[], Moment]) -> int:
        """Remove what came from a host, in pieces; return how many entries that were.

        What this host, other peers or lists decided, and it extended, is active again.

        Raises:
            StoreError: the rest is still there.
        """
        extended.note_removed(self._store, name, clock().wall)
        removed, what = 0, Filter(origin=f"peer:{name}")
        while rows := self._store.listing.snapshots(clock().wall, what, count=_PIECE):
            now = clock()
            about = [(r.subject, r.scope, OPERATOR, 0, now.wall, f"{name} removed") for r in rows]
            found = [Decision(now.wall, "release", *a, origin=f"peer:{name}") for a in about]
            keys = [(r.subject, r.scope) for r in rows]
            kept, _ = extended.remaining(self._pipeline, keys, f"peer:{name}", now.wall)
            extended.remove(self._pipeline, found, kept, now)
            if self._pipeline.recorder.error is not None:
                raise self._pipeline.recorder.error
            removed += len(rows)
            await asyncio.sleep(0)
        return removed
