"""The daemon's half of the fleet: what peers published comes in, what this host decided goes out.

A peer's stream is read like a log: each entry is checked, judged (`decide/peers.py`), recorded with
its position in one transaction, and applied; reading twice changes nothing. What is published is in
`core/outbox.py`. Blocks for as long as SQLite and the kernel take; what moves the bytes is
`service/fleet.py`.

Owns the state of each peer (at most `PEERS`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from msgspec import MsgspecError, msgpack

from throttled.clock import Moment
from throttled.config.schema import Fleet as Settings
from throttled.core.fleet_health import BEGIN, BURST, Peer, error, evicting, of_peer, unconnected
from throttled.core.outbox import Outbox
from throttled.core.pipeline import Pipeline
from throttled.decide.ladder import OPERATOR
from throttled.decide.peers import EXEMPT, PeerBan, Peers, acceptable
from throttled.fleet import wire
from throttled.fleet.frames import Add, Down, Names, Read, Up
from throttled.fleet.wire import Ban, Heartbeat, Seal, Unban, WireError
from throttled.model import RESTRICTING, Decision, Entry, Finding
from throttled.store.store import Filter, Store, StoredPosition

log = logging.getLogger(__name__)

PEERS = 256
#: Rows of a peer that are taken a second, and at once after a silence.
RATE = 5_000.0
#: A connection that is lost for less is no finding.
_PATIENCE = 10.0
#: So many forged entries of a peer in a minute: it is not read for a minute.
_FORGED, _PAUSE = 100, 60.0
_PIECE = 1_000  # entries that are removed at once
_DISTRUSTED = "fleet-distrusted"

Announce = Callable[[Sequence[Decision]], None]


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
    ) -> None:
        """Begin where the store says.

        Args:
            settings: the operator's.
            name: of this host.
            secret: of the fleet.
            pipeline: records and applies.
            positions: how far the logs have been read.
            announce: called with what peers led to.
        """
        self.settings, self.name = settings, name
        self.peers: dict[str, Peer] = {}
        self.judge = Peers(pipeline.ladder)
        self.received: Counter[tuple[str, str]] = Counter()  # by peer and outcome
        self.up: Up | None = None
        self.down: Down | None = None
        self._down_since: float | None = None
        self._up_since = 0.0  # boot clock
        self._reading: set[str] | None = None  # what the process was asked to read
        self._secret, self._pipeline = secret, pipeline
        self._positions, self._announce = positions, announce
        self.outbox = Outbox(settings, Seal(secret, settings.site, name), pipeline)

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
        if not self.peers:
            self._known(now)
        self.outbox.connected(message, now)
        self.up, self.down, self._up_since = message, None, now.boot

    def _known(self, now: Moment) -> None:
        """Take up peers that were read before, however many names are announced now."""
        distrusted = self.distrusted()
        for path, stored in self._store.positions().items():
            fleet, _, name = path.partition(":")
            if fleet == "fleet" and self._wanted(name, distrusted) and len(self.peers) < PEERS:
                self.peers[name] = _peer(stored, now)

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
        if self._down_since is None:
            self._down_since = now.boot

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
            self.down = self._down_since = None  # the server has room again
        self.outbox.added(now)

    def named(self, message: Names, now: Moment) -> Read | None:
        """Return from where on streams are read; None: from where they are read now.

        Raises:
            StoreError: positions cannot be read.
        """
        if self.down is None and now.boot - self._up_since >= _PATIENCE:
            self._down_since = None  # it stays connected
        stored, distrusted = self._store.positions(), self.distrusted()
        for name, last in message.last.items():
            if not self._wanted(name, distrusted):
                continue
            if name not in self.peers and len(self.peers) < PEERS:
                self.peers[name] = _peer(stored.get(f"fleet:{name}"), now)
            peer = self.peers.get(name)
            if peer is not None and _before(last, peer.id):
                log.warning("the Redis server lost entries of %s; reading from its first", name)
                peer.id = BEGIN
                self._reading = None
        readable = self._readable(now)
        if readable == self._reading or self.up is None:
            return None
        self._reading = readable
        oldest = f"{max(0, self.up.server - int(self.settings.longest * 1000))}-0"
        after = {n: max(oldest, self.peers[n].id, key=wire.place) for n in readable}
        return Read(after)

    def _readable(self, now: Moment) -> set[str]:
        return {name for name, peer in self.peers.items() if peer.paused_until <= now.boot}

    # What operators want

    def distrusted(self) -> frozenset[str]:
        """Return the hosts that are not listened to, whatever the configuration says.

        Raises:
            StoreError: it cannot be read.
        """
        stored = self._store.known(_DISTRUSTED)
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
        self._store.know(_DISTRUSTED, msgpack.encode(names), now.wall)
        self.peers.pop(name, None)
        self._reading = None

    def trust(self, name: str, now: Moment) -> None:
        """Listen to a host again, and end its brake.

        Raises:
            StoreError: it cannot be recorded.
        """
        names = sorted(self.distrusted() - {name})
        self._store.know(_DISTRUSTED, msgpack.encode(names), now.wall)
        self.judge.release(name)
        self._reading = None  # what came meanwhile was passed over: it is read again

    async def remove(self, name: str, clock: Callable[[], Moment]) -> int:
        """Remove what came from a host, in pieces; return how many entries that were.

        Raises:
            StoreError: the rest is still there.
        """
        removed, what = 0, Filter(origin=f"peer:{name}")
        while rows := self._store.snapshots(clock().wall, what, count=_PIECE):
            now = clock()
            about = [(r.subject, r.scope, OPERATOR, 0, now.wall, f"{name} removed") for r in rows]
            found = [Decision(now.wall, "release", *a, origin=f"peer:{name}") for a in about]
            self._pipeline.decide(found, now)
            if self._pipeline.recorder.error is not None:
                raise self._pipeline.recorder.error
            removed += len(rows)
            await asyncio.sleep(0)
        return removed

    # What peers say

    def entry(self, name: str, server: int, entry: tuple[str, bytes, bytes], now: Moment) -> float:
        """Process an entry of a peer; return after how many seconds the next may come.

        Args:
            name: of the peer.
            server: the Redis server's time, milliseconds.
            entry: id, data and MAC.
            now: both clocks.

        Raises:
            StoreError: nothing of it is recorded; it is to be processed again.
        """
        peer = self.peers.get(name)
        if peer is None:
            return 0.0
        identity, data, mac = entry
        try:
            added, _ = wire.place(identity)
            found = wire.decode(Seal(self._secret, self.settings.site, name), data, mac)
        except WireError as error:
            peer.id = identity if _is_place(identity) else peer.id
            self._refused(name, peer, error, now)
            return max(0.0, peer.paused_until - now.boot)
        if found.number <= peer.number:
            self.received[name, "old"] += 1
            peer.id = identity
            return 0.0
        self._effect(name, peer, found, (identity, server - added), now)
        peer.missing = 0 < peer.number < found.before
        peer.id, peer.number, peer.heard = identity, found.number, now.boot
        return self._wait(peer, len(found.rows), now)

    def _effect(
        self, name: str, peer: Peer, found: wire.Entry, at: tuple[str, int], now: Moment
    ) -> None:
        """Act on an entry, and record its position with that."""
        identity, age = at
        peer.braked = self.judge.braked(name, now.wall)
        state = msgpack.encode((identity, found.number))
        positions = [*self._positions(), StoredPosition(f"fleet:{name}", state)]
        bans = [row for row in found.rows if isinstance(row, Ban)]
        unbans = [row for row in found.rows if isinstance(row, Unban)]
        for row in found.rows:
            if isinstance(row, Heartbeat):
                peer.version, peer.entries = row.version, row.entries
        if bans:
            left = [self._ban(row, age) for row in bans]
            self._bans(name, peer, left, now, positions)
        else:
            self._unbans(name, unbans, age, now)
            self._pipeline.recorder.record(now, positions=positions)

    def _ban(self, row: Ban, age: int) -> PeerBan:
        left = wire.seconds_left(row.seconds, age, self.settings.longest)
        return PeerBan(row.subject, row.scope, left, row.limit, row.level, row.value, row.threshold)

    def _bans(
        self,
        name: str,
        peer: Peer,
        bans: Sequence[PeerBan],
        now: Moment,
        positions: Sequence[StoredPosition],
    ) -> None:
        pasts = self._store.past(self.judge.keys(bans), now.wall)
        room = max(0, self.settings.most - self._store.of_peer(name, now.wall))
        believe = self.settings.believe
        ruling = self.judge.judge(name, bans, pasts, now.wall, believe=believe, room=room)
        self._pipeline.decide_peers(ruling.decisions, pasts, now, positions)
        for outcome, count in ruling.outcomes.items():
            self.received[name, outcome] += count
        peer.braked = self.judge.braked(name, now.wall)
        peer.most = ruling.outcomes["most"] > 0
        if ruling.decisions:
            self._announce(ruling.decisions)

    def _unbans(self, name: str, rows: Sequence[Unban], age: int, now: Moment) -> None:
        allowed = self.judge.unbans(name, len(rows), now.wall)
        self.received[name, "too-many"] += len(rows) - allowed
        releases: list[Decision] = []
        for row in rows[:allowed]:
            outcome = self._unban(name, row, age, now)
            self.received[name, outcome] += 1
            if outcome == "unbanned":
                what = row.subject, row.scope, OPERATOR, 0, now.wall
                why = f"unbanned by an operator of {name}"
                releases.append(Decision(now.wall, "release", *what, why, origin=f"peer:{name}"))
        if releases:
            self._announce(releases)

    def _unban(
        self, name: str, row: Unban, age: int, now: Moment
    ) -> Literal["refused", "known", "kept", "unbanned"]:
        if not acceptable(PeerBan(row.subject, row.scope, 0.0, OPERATOR, 0, 0, 0)):
            return "refused"
        active = self._store.snapshots(now.wall, Filter(row.scope, subject=row.subject))
        active = [each for each in active if each.action != "exempt"]
        exempt = wire.seconds_left(row.exempt, age, EXEMPT)
        if not active and not exempt:
            return "known"
        if not self.settings.unban and not all(a.origin.startswith("peer:") for a in active):
            return "kept"
        until = now.wall + exempt if exempt else 0.0
        origin = f"peer:{name}"
        self._pipeline.unban(row.subject, row.scope, now, until, origin)
        removed = [Entry(row.subject, row.scope, action, 0.0) for action in RESTRICTING]
        self._pipeline.enforcer.apply(removed, now)
        return "unbanned"

    def _refused(self, name: str, peer: Peer, error: WireError, now: Moment) -> None:
        self.received[name, error.outcome] += 1
        if now.boot - peer.forged_since > _PAUSE:
            peer.forged, peer.forged_since = 0, now.boot
        peer.forged += 1
        peer.forged_last = now.boot
        if peer.forged >= _FORGED:
            peer.paused_until = now.boot + _PAUSE

    @staticmethod
    def _wait(peer: Peer, rows: int, now: Moment) -> float:
        since = max(0.0, now.boot - peer.counted)
        peer.allowance = min(BURST, peer.allowance + since * RATE) - rows
        peer.counted = now.boot
        return max(0.0, -peer.allowance / RATE)

    # What is wrong

    def error(self) -> tuple[str, str]:
        """Return what is wrong with the connection, and a hint; empty: nothing is."""
        return error(self.down)

    def findings(self, boot: float) -> Iterator[Finding]:
        """Yield what is wrong with the connection and with peers."""
        if self.down is not None and boot - (self._down_since or boot) >= _PATIENCE:
            yield unconnected(self.down, alone=self.up is None)
        if self.up is not None and self.up.eviction not in {"", "noeviction"}:
            yield evicting(self.up.eviction)
        for name, peer in self.peers.items():
            yield from of_peer(name, peer, boot, self.settings, connected=self.up is not None)


def _peer(stored: StoredPosition | None, now: Moment) -> Peer:
    """Return a peer that is read from its stored position."""
    try:
        identity, number = msgpack.decode(stored.state if stored else b"", type=tuple[str, int])
        wire.place(identity)
    except (MsgspecError, TypeError, WireError):
        return Peer(heard=now.boot)
    return Peer(identity, number, heard=now.boot)


def _is_place(identity: str) -> bool:
    try:
        wire.place(identity)
    except WireError:
        return False
    return True


def _before(last: str, read: str) -> bool:
    """Return whether a stream ends before what was read of it."""
    return _is_place(last) and wire.place(last) < wire.place(read)
