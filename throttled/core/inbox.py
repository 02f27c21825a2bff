"""What peers published, on its way in: checked, judged, recorded and applied.

A peer's stream is read like a log: the effect of an entry is recorded with its position in one
transaction, and reading twice changes nothing. Consecutive bans are sorted by subject and processed
in slices, so that catching up visits each page of the database's indexes once and own bans come in
between; only the last slice records the position. Blocks for a slice at a time.

Owns the state of each peer (at most `PEERS`), and how much came from them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import inf

from msgspec import MsgspecError, Struct, msgpack

from throttled.clock import Moment
from throttled.config.fleet import Fleet as Settings
from throttled.core import tried
from throttled.core.exposed import exposed
from throttled.core.peers_unbans import Published
from throttled.core.peers_unbans import act as unban
from throttled.core.pipeline import Pipeline
from throttled.decide.peers import PeerBan, Peers
from throttled.fleet import wire
from throttled.fleet.wire import Ban, Heartbeat, Seal, Unban, WireError
from throttled.histogram import Histogram
from throttled.model import Crossing, Decision
from throttled.store.store import Store, StoredPosition

PEERS = 256
#: Rows of a peer that are taken a second, and at once after a silence.
RATE, BURST = 5_000.0, 100_000.0
BEGIN = "0-0"
#: Forged entries of a peer in a minute after which it is not read for a minute.
FORGED, PAUSE = 100, 60.0
#: Rows that are recorded and applied at once: 10 ms.
SLICE = 250
#: Decisions that are announced at once: sessions of all clients are looked up for that.
_ANNOUNCED = 1_000

Announce = Callable[[Sequence[Decision]], None]
Raw = tuple[str, bytes, bytes]  # id, data and MAC of an entry


class Peer(Struct):
    """What is known of a peer since the start."""

    name: str
    again: int = 0  # number of the last entry before the start: of those before only names count
    repeated: int = 0  # number of the latest of those that was read again
    id: str = BEGIN  # of the last entry that was read
    number: int = 0  # of that entry
    last: str = ""  # id of the last entry that its stream had when that was looked up
    behind_since: float | None = None  # boot clock, since when entries have been waiting there
    heard: float = 0.0  # boot clock
    version: str = ""
    entries: int = 0  # active there, by its own count
    ignored: float | None = None  # boot clock, when it last unbanned too many
    missing: bool = False  # an entry before the last one never came
    braked: bool = False  # its bans are throttles
    room: int = 0  # entries that may become active before they are counted
    most: bool = False  # it published more than may be active
    writer: int = -1  # see `throttled.fleet.wire`
    former: int = -1  # the one before
    doubled: float | None = None  # boot clock, when entries of both came last
    forged: int = 0  # since `forged_since`
    forged_since: float = 0.0  # boot clock
    forged_last: float = 0.0  # boot clock
    paused_until: float = 0.0  # boot clock
    allowance: float = BURST  # rows that may come at once
    counted: float = 0.0  # boot clock, when that was

    def note_writer(self, writer: int, now: Moment) -> None:
        """Note which start of which daemon wrote an entry: one that comes back never ended."""
        if writer == self.writer:
            return
        if writer == self.former:
            self.doubled = now.boot
        self.former, self.writer = self.writer, writer

    def behind(self) -> float:
        """Return how many seconds of its stream have not been read."""
        if not is_place(self.last) or self.id == BEGIN:
            return 0.0
        return max(0.0, (wire.place(self.last)[0] - wire.place(self.id)[0]) / 1000)


class _Checked(Struct, frozen=True):
    id: str
    age: int  # milliseconds by the Redis server's clock
    at: float  # when it was published, wall clock of this host
    entry: wire.Entry
    bans: list[PeerBan]


class Inbox:
    """The streams of peers."""

    def __init__(  # noqa: PLR0913, PLR0917 - whose, with what, and what follows
        self,
        settings: Settings,
        secret: bytes,
        pipeline: Pipeline,
        names: tried.SharedNames,
        positions: Callable[[], list[StoredPosition]],
        announce: Announce,
    ) -> None:
        """Read nothing yet; see `Fleet`."""
        self.peers: dict[str, Peer] = {}
        self.judge = Peers(pipeline.ladder)
        self.received: Counter[tuple[str, str]] = Counter()  # by peer and outcome
        self.delay = Histogram()  # from a peer's publishing to its entry being processed here
        self._settings, self._secret, self._pipeline = settings, secret, pipeline
        self._names, self._of_logs, self._announce = names, positions, announce

    @property
    def _store(self) -> Store:
        return self._pipeline.recorder.store

    def steps(
        self, name: str, server: int, entries: Sequence[Raw], clock: Callable[[], Moment]
    ) -> Iterator[None]:
        """Process entries of a peer; between two steps others may go on.

        Args:
            name: of the peer.
            server: the Redis server's time, milliseconds.
            entries: id, data and MAC of each.
            clock: both clocks.

        Raises:
            StoreError: what follows is not recorded; all of it is to be processed again.
        """
        peer = self.peers.get(name)
        if peer is None:
            return
        bans: list[_Checked] = []
        began = clock().wall
        for raw in entries:
            number = bans[-1].entry.number if bans else peer.number
            found = self._checked(peer, number, server, raw, began, clock())
            yield
            if found is not None and found.entry.kind == "ban":
                bans.append(found)
                continue
            yield from self._bans(peer, bans, clock)
            bans = []
            if found is not None and self.peers.get(peer.name) is peer:
                self._other(peer, found, clock())
                yield
        yield from self._bans(peer, bans, clock)

    def _checked(  # noqa: PLR0913, PLR0917 - of whom, after what, and when
        self, peer: Peer, number: int, server: int, raw: Raw, began: float, now: Moment
    ) -> _Checked | None:
        """Return an entry that is authentic and new; else note what it is.

        Args:
            peer: whose entry it is.
            number: of the entry before.
            server: the Redis server's time when entries came, milliseconds.
            raw: the entry.
            began: the wall clock here at that time.
            now: both clocks.
        """
        identity, data, mac = raw
        try:
            added, _ = wire.place(identity)
            seal = Seal(self._secret, self._settings.site, peer.name)
            found = wire.read(seal, data, mac, server / 1000)
        except WireError as error:
            self._refused(peer, error, now)
            found = None
        if found is None or found.number <= number:
            if found is not None:
                self._read_before(peer, found, server - added, now)
            if number == peer.number and is_place(identity):
                peer.id = identity
            return None
        peer.note_writer(found.writer, now)
        age = server - added
        at = began - age / 1000
        bans = [self._ban(row, age, at) for row in found.rows if isinstance(row, Ban)]
        return _Checked(identity, age, at, found, bans)

    def _processed(self, peer: Peer, done: _Checked, now: Moment) -> None:
        self.delay.add(max(0.0, done.age / 1000), len(done.entry.rows))
        peer.missing = 0 < peer.number < done.entry.before
        peer.id, peer.number, peer.heard = done.id, done.entry.number, now.boot
        since = max(0.0, now.boot - peer.counted)
        peer.allowance = min(BURST, peer.allowance + since * RATE) - len(done.entry.rows)
        peer.counted = now.boot

    def pause(self, name: str, boot: float) -> float:
        """Return after how many seconds the next entries of a peer may come."""
        peer = self.peers.get(name)
        if peer is None:
            return 0.0
        return max(0.0, -peer.allowance / RATE, peer.paused_until - boot)

    def _position(self, name: str, done: _Checked) -> StoredPosition:
        return StoredPosition(f"fleet:{name}", msgpack.encode((done.id, done.entry.number)))

    def _positions(self, name: str, done: _Checked) -> list[StoredPosition]:
        """Return how far the logs and the stream of a peer have been read."""
        return [*self._of_logs(), self._position(name, done)]

    # Bans

    def _bans(
        self, peer: Peer, checked: Sequence[_Checked], clock: Callable[[], Moment]
    ) -> Iterator[None]:
        """Act on consecutive entries of bans, and record the position of the last with that."""
        bans = [ban for each in checked for ban in each.bans]
        bans.sort(key=_subject)
        peer.most &= not bans
        decided: list[Decision] = []
        try:
            for at in range(0, len(bans), SLICE):
                if self.peers.get(peer.name) is not peer:  # distrusted meanwhile
                    return
                last = at + SLICE >= len(bans)
                positions = self._positions(peer.name, checked[-1]) if last else None
                decided += self._slice(peer, bans[at : at + SLICE], clock(), positions)
                if len(decided) >= _ANNOUNCED:
                    self._announce(decided)
                    decided = []
                yield
        finally:
            if decided:
                self._announce(decided)
        for done in checked:
            self._processed(peer, done, clock())

    def _ban(self, row: Ban, age: int, at: float) -> PeerBan:
        left = wire.seconds_left(row.seconds, age, self._settings.longest)
        what = row.subject, row.scope, left, row.limit, row.level, row.value, row.threshold
        return PeerBan(*what, at=at)

    def _slice(
        self,
        peer: Peer,
        bans: Sequence[PeerBan],
        now: Moment,
        positions: Sequence[StoredPosition] | None,
    ) -> list[Decision]:
        """Act on bans; return what was decided, which is to be announced."""
        bans = self._without_unbanned(peer.name, bans, now)
        pasts = self._store.past(self.judge.keys(bans), now.wall)
        if peer.room < len(bans):  # counted again only where the limit is near
            peer.room = max(0, self._settings.most - self._store.fleet.count(peer.name, now.wall))
        recorder = self._pipeline.recorder
        ruling = self.judge.judge(
            peer.name,
            bans,
            pasts,
            now.wall,
            believe=self._settings.believe,
            room=peer.room,
            exposed={key for key in pasts if exposed(key, recorder, now)},
        )
        peer.room -= len(ruling.decisions)
        self._pipeline.decide_peers(ruling.decisions, pasts, now, positions)
        for outcome, count in ruling.outcomes.items():
            self.received[peer.name, outcome] += count
        peer.braked = self.judge.braked(peer.name, now.wall)
        peer.most |= ruling.outcomes["most"] > 0
        return ruling.decisions

    def _without_unbanned(self, name: str, bans: Sequence[PeerBan], now: Moment) -> list[PeerBan]:
        """Leave out bans that were published before their subjects were unbanned.

        Streams are read independently, so these may come later than a peer's unban.
        """
        since = min((ban.at for ban in bans), default=inf)
        unbanned = self._store.fleet.unbanned_since(
            [(b.subject, b.scope) for b in bans], since, now.wall
        )
        valid = [b for b in bans if b.at >= unbanned.get((b.subject, b.scope), 0.0)]
        self.received[name, "unbanned-since"] += len(bans) - len(valid)
        return valid

    # Everything else

    def _other(self, peer: Peer, found: _Checked, now: Moment) -> None:
        """Act on an entry, and record its position with that."""
        peer.braked = self.judge.braked(peer.name, now.wall)
        rows, positions = found.entry.rows, self._positions(peer.name, found)
        for row in rows:
            if isinstance(row, Heartbeat):
                peer.version, peer.entries = row.version, row.entries
        crossings: list[Crossing] = []
        if found.entry.kind == "names":
            crossings = self._tried(peer.name, found.entry, found.age, now, again=False)
        if crossings:
            bans = tried.bans(self.judge, peer.name, crossings, self._store, now)
            decided = self._slice(peer, bans, now, positions)
            if decided:
                self._announce(decided)
        elif found.entry.kind == "unban":
            self._unban(peer, found, now)
        else:
            self._pipeline.recorder.record(now, positions=positions)
        self._processed(peer, found, now)

    def _read_before(self, peer: Peer, found: wire.Entry, age: int, now: Moment) -> None:
        """Count names of before the restart once more, as lines of the log are."""
        if not peer.repeated < found.number <= peer.again:
            self.received[peer.name, "old"] += 1
            return
        peer.repeated = found.number
        if found.kind == "names":
            self._tried(peer.name, found, age, now, again=True)

    def _tried(
        self, name: str, found: wire.Entry, age: int, now: Moment, *, again: bool
    ) -> list[Crossing]:
        rows = [row for row in found.rows if isinstance(row, wire.Names)]
        received: Counter[str] = Counter()
        crossings = self._names.count(rows, age, now, received, again=again)
        for outcome, count in received.items() if not again else ():
            self.received[name, f"names-{outcome}"] += count
        return crossings

    def _unban(self, peer: Peer, found: _Checked, now: Moment) -> None:
        rows = [row for row in found.entry.rows if isinstance(row, Unban)]
        allowed = self.judge.unbans(peer.name, len(rows), now.wall)
        if allowed < len(rows):
            self.received[peer.name, "too-many"] += len(rows) - allowed
            peer.ignored = now.boot
        about = Published(peer.name, found.at, found.age, self._position(peer.name, found))
        own = self._settings.unban
        outcomes, releases = unban(self._pipeline, rows[:allowed], about, now, own=own)
        for outcome, count in outcomes.items():
            self.received[peer.name, outcome] += count
        if releases:
            self._announce(releases)

    def _refused(self, peer: Peer, error: WireError, now: Moment) -> None:
        self.received[peer.name, error.outcome] += 1
        if now.boot - peer.forged_since > PAUSE:
            peer.forged, peer.forged_since = 0, now.boot
        peer.forged += 1
        peer.forged_last = now.boot
        if peer.forged >= FORGED:
            peer.paused_until = now.boot + PAUSE


def stored(name: str, position: StoredPosition | None, now: Moment) -> Peer:
    """Return a peer that is read again for its names, and acted on after its stored position."""
    try:
        state = position.state if position else b""
        identity, number = msgpack.decode(state, type=tuple[str, int])
        wire.place(identity)
    except (MsgspecError, TypeError, WireError):
        return Peer(name, heard=now.boot)
    return Peer(name, number, number=number, heard=now.boot)


def is_place(identity: str) -> bool:
    """Return whether a text is the id of an entry."""
    try:
        wire.place(identity)
    except WireError:
        return False
    return True


def before(last: str, read: str) -> bool:
    """Return whether a stream ends before what was read of it."""
    return is_place(last) and wire.place(last) < wire.place(read)


def _subject(ban: PeerBan) -> str:
    return ban.subject
