"""What this host publishes to its fleet: read from the history by number. See `core/fleet.py`.

The history is the outbox, so nothing waits in memory; how far it is published is a position like
that of a log. An entry that may have been written is written again with another number, which does
nothing at who has it.

Owns which entry is on its way, and how far everything is published.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from msgspec import MsgspecError, Struct, field, msgpack

from throttled import __version__
from throttled.clock import Moment
from throttled.config.fleet import Fleet as Settings
from throttled.core.namesake import Namesake
from throttled.core.pipeline import Pipeline
from throttled.core.tried import SharedNames
from throttled.errors import StoreError
from throttled.fleet import wire
from throttled.fleet.frames import Add, Entry, Up
from throttled.fleet.wire import Ban, Heartbeat, Row, Seal, Unban, WireError
from throttled.model import Scope
from throttled.store.fleet import Own
from throttled.store.store import Store, StoredPosition

_HEARTBEAT = 60.0
_AGAIN = 5.0  # seconds before an entry that was refused is sent again
_LOST = 15.0  # seconds after which an entry without an answer is sent again
_PATH = "fleet"  # of the position
#: Unbans of an `unban --all` in an entry, and seconds between two of these: peers count 100 unbans
#: a minute, and an operator's others are among them.
CLEARED, CLEARING = 80, 70.0


class _Clearing(Struct, array_like=True):
    """An `unban --all` that is published in pieces."""

    until: int = 0  # number of the last decision before it; 0: there is none
    after: int = 0  # how far the history was looked at
    scope: Scope | Literal[""] = ""


class _State(Struct, array_like=True):
    """What is stored."""

    published: int
    number: int
    again: bool
    clearing: _Clearing = field(default_factory=_Clearing)


class _Sent(Struct):
    decision: int  # how far the history is published with it
    again: int | None = None  # how far what is active is published again
    cleared: int | None = None  # how far an `unban --all` is
    number: int = 0
    kind: str = ""
    rows: int = 0
    at: float = 0.0  # boot clock


class Outbox:
    """The own stream."""

    def __init__(
        self, settings: Settings, seal: Seal, pipeline: Pipeline, names: SharedNames
    ) -> None:
        """Publish nothing yet."""
        self._names = names
        self.published: Counter[str] = Counter()  # rows, by kind
        self._settings, self._seal, self._pipeline = settings, seal, pipeline
        self.namesake = Namesake(seal)
        self._sent: _Sent | None = None
        self._retry = 0.0  # boot clock
        self._beat = 0.0  # boot clock, of the latest heartbeat
        self._again: int | None = None
        self._published, self._number = 0, 0
        self._clearing = _Clearing()
        self._looked = 0  # how far the history was looked at for it
        self._cleared = 0.0  # boot clock, when a piece of it was published
        self._loaded = False
        with suppress(StoreError):  # tried again when it is connected
            self._load()

    @property
    def _store(self) -> Store:
        return self._pipeline.recorder.store

    def connected(self, message: Up, now: Moment) -> None:
        """Take up the own stream where it ends; publish again what the server lost.

        Raises:
            StoreError: the position cannot be read or recorded.
        """
        self._load()
        last = self._last_number(message, now)
        lost = last < self._number or message.emptied
        if self._sent is not None and last == self._sent.number:
            self.added(now)  # it was written, only the answer did not come
        self._number = max(self._number, last)
        self._sent, self._retry = None, 0.0
        if lost:
            self._again = 0
            self._record(now)  # it is announced then, and nobody sees again that it was lost
        self._beyond(self.namesake.connected(message.last, self._number, now), now)

    def seen(self, entry: Entry, now: Moment) -> None:
        """Note an entry of the own stream that the fleet process did not add.

        Raises:
            StoreError: its number cannot be recorded.
        """
        self._beyond(self.namesake.seen(entry, now), now)

    def _beyond(self, number: int, now: Moment) -> None:
        """Go on after another host's entry: peers ignore smaller numbers, and may have done so.

        Args:
            number: of the entry; 0: there is none.
            now: both clocks.
        """
        if not number:
            return
        self._number, self._again = max(self._number, number), 0
        if self._sent is not None:
            self._sent.again = 0
        self._record(now)

    def lost(self, now: Moment, *, sent: bool) -> None:
        """Note that an entry was not added, or that that is not known (`sent`)."""
        if not sent:
            self._sent = None
        self._retry = now.boot + _AGAIN

    def next(self, now: Moment) -> Add | None:
        """Return the next entry to publish; None: there is nothing, or one is on its way.

        Raises:
            StoreError: the history cannot be read.
        """
        if self._sent is not None and now.boot - self._sent.at > _LOST:
            self._sent = None
        if self._sent is not None or now.boot < self._retry:
            return None
        names = self._names.rows(now)
        if self.namesake.active(now.boot):  # names tried are not published then
            return self._heartbeat(now)
        if names and "names" in self._settings.share:
            return self._send("names", names, _Sent(self._published, self._again), now)
        while self._again is not None or self._store.fleet.last() > self._published:
            kind, rows, sent = self._piece(now)
            if rows:
                return self._send(kind, rows, sent, now)
            self._done(sent)
        unbans = self._cleared_rows(now)
        if unbans:
            return self._send("unban", unbans, _Sent(self._published, None, self._looked), now)
        return self._heartbeat(now)

    def _heartbeat(self, now: Moment) -> Add | None:
        if now.boot - self._beat < _HEARTBEAT:
            return None
        entries = sum(self._store.active.counts(now.wall).values())
        beat = Heartbeat(__version__, entries)
        return self._send("heartbeat", [beat], _Sent(self._published, self._again), now)

    def unbanned_all(self, scope: Scope | None, now: Moment) -> bool:
        """Publish from now on what an operator's `unban --all` unbanned, `CLEARED` at a time.

        Peers ignore more unbans. What was to be published of an earlier one is in it.

        Returns:
            Whether unbans are shared.

        Raises:
            StoreError: it is not recorded; nothing of it is published.
        """
        if "unbans" not in self._settings.share:
            return False
        self._load()
        self._clearing = _cleared(self._store, self._clearing, scope)
        self._record(now)
        return True

    def _cleared_rows(self, now: Moment) -> list[Unban]:
        clearing = self._clearing
        if not clearing.until or now.boot - self._cleared < CLEARING:
            return []
        what = clearing.after, clearing.until, clearing.scope
        found, self._looked = self._store.fleet.cleared(*what, now.wall, CLEARED)
        if found:
            self._cleared = now.boot
        elif self._looked >= clearing.until:
            self._clearing = _Clearing()
        else:
            clearing.after = self._looked
        return [Unban(own.subject, own.scope) for own in found]

    def unpublished(self) -> int:
        """Return how many decisions are not looked at yet.

        Raises:
            StoreError: the history cannot be read.
        """
        return max(0, self._store.fleet.last() - self._published)

    def due(self, now: Moment) -> float | None:
        """Return after how many seconds `next` is to be asked again; None: when it is woken."""
        return self._names.due(now) if self._sent is None and now.boot >= self._retry else None

    def added(self, now: Moment) -> None:
        """Note that the entry on its way is in the stream."""
        sent, self._sent = self._sent, None
        if sent is None:
            return
        self.published[sent.kind] += sent.rows
        self._number = max(self._number, sent.number)
        if sent.kind == "heartbeat":
            self._beat = now.boot
        self._done(sent)
        self._record(now)

    def _record(self, now: Moment) -> None:
        state = _State(self._published, self._number, self._again is not None, self._clearing)
        position = StoredPosition(_PATH, msgpack.encode(state))
        self._store.record(now.wall, (), (), [position])

    def _done(self, sent: _Sent) -> None:
        self._published, self._again = sent.decision, sent.again
        if sent.cleared is not None:
            self._clearing.after = sent.cleared

    def _piece(self, now: Moment) -> tuple[wire.Kind, list[Row], _Sent]:
        """Return rows of one kind, and how far everything is published with them."""
        share = self._settings.share
        if self._again is not None:
            known, again = self._store.fleet.own(self._again, now.wall, wire.ROWS)
            found = [own for own in known if own.number <= self._published]  # else: in the history
            bans = [self._row(own, now) for own in found if "bans" in share]
            again = None if again is not None and again > self._published else again
            return "ban", bans, _Sent(self._published, again)
        found, end = self._store.fleet.outbox(self._published, now.wall, wire.ROWS)
        found = [o for o in found if ("bans" if o.action == "ban" else "unbans") in share]
        kind: wire.Kind = "unban" if found and found[0].action == "release" else "ban"
        rows: list[Row] = []
        for own in found:
            if own.action != found[0].action:
                end = own.number - 1
                break
            rows.append(self._row(own, now))
        return kind, rows, _Sent(end)

    def _row(self, own: Own, now: Moment) -> Row:
        if own.action == "release":
            return Unban(own.subject, own.scope, max(0, round(own.exempt_until - now.wall)))
        seconds = max(1, round(min(own.until - now.wall, self._settings.longest)))
        what = own.subject, own.scope, seconds, own.limit, min(1000, max(0, own.level))
        return Ban(*what, max(0, own.value), max(0, own.threshold))

    def _send(self, kind: wire.Kind, rows: Sequence[Row], sent: _Sent, now: Moment) -> Add:
        sent.number = wire.number_after(self._number, now.wall)
        sent.kind, sent.rows, sent.at = kind, len(rows), now.boot
        self._sent = sent
        entry = wire.Entry(sent.number, self._number, kind, rows, self.namesake.writer)
        return Add(*wire.encode(self._seal, entry))

    def _last_number(self, message: Up, now: Moment) -> int:
        """Return the number of the last entry of the own stream; 0: there is none of ours."""
        if message.last is None:
            return 0
        try:
            return wire.read(self._seal, *message.last[1:], now.wall).number
        except WireError:
            return 0

    def _load(self) -> None:
        if self._loaded:
            return
        state = _read(self._store)
        self._published, self._number = state.published, state.number
        self._again, self._clearing = 0 if state.again else None, state.clearing
        self._loaded = True


def unbanned_all_offline(
    store: Store, settings: Settings, scope: Scope | None, wall: float
) -> bool:
    """Let the next start of the daemon do what `Outbox.unbanned_all` does.

    Args:
        store: of the host; no daemon runs.
        settings: the operator's.
        scope: None for all.
        wall: wall clock.

    Returns:
        Whether unbans are shared.

    Raises:
        StoreError: it is not recorded; nothing of it is published.
    """
    if not settings.site or "unbans" not in settings.share:
        return False
    state = _read(store)
    state.clearing = _cleared(store, state.clearing, scope)
    store.record(wall, (), (), [StoredPosition(_PATH, msgpack.encode(state))])
    return True


def _read(store: Store) -> _State:
    """Return how far everything is published; of a host that never published: nothing is."""
    stored = store.positions.all().get(_PATH)
    try:
        return msgpack.decode(stored.state if stored else b"", type=_State)
    except (MsgspecError, TypeError):
        return _State(store.fleet.last(), 0, again=True)


def _cleared(store: Store, before: _Clearing, scope: Scope | None) -> _Clearing:
    """Return what is to be published of an `unban --all`, with what is of an earlier one."""
    scopes = scope or ""
    joint = scopes if not before.until or before.scope == scopes else ""
    return _Clearing(store.fleet.last(), 0, joint)
