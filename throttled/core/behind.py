"""Clients behind a proxy that went above a limit: what would be done about them.

Their packets are the proxy's, so no decision about them reaches the kernel or the store. They are
judged as all others are, without a history, and reported. What would be active is kept in memory:
at most `_MOST`, those that end first are evicted.

Whoever can act on them, as Postfix's answers at the client stage can, is given each change as
entries: `enforce`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from throttled import address
from throttled.clock import Moment
from throttled.decide.engine import Engine
from throttled.decide.ladder import Ladder
from throttled.model import DONE, RESTRICTING, Action, Crossing, Decision, Entry, Scope, Snapshot
from throttled.settings import GUESSING

_MOST = 10_000
#: Decisions that wait to be announced; in a replay nobody asks for them.
_PENDING = 1_000
#: A crossing that led to less than it asked for is not judged again for so long, unless the value
#: of its limit is higher than what was excused.
SPARED = 60.0

Key = tuple[str, Scope]


class Behind:
    """What would be active against clients behind a proxy."""

    def __init__(self, ladder: Ladder, engine: Engine) -> None:
        """Begin with nothing.

        Args:
            ladder: judges; not the one of other clients, as it has a memory.
            engine: counts these clients.
        """
        self.ladder = ladder
        self._engine = engine
        self._active: dict[Key, Snapshot] = {}
        self._pending: deque[Decision] = deque(maxlen=_PENDING)
        #: Puts entries active where the kernel cannot; seconds 0 removes one.
        self.enforce: Callable[[Sequence[Entry]], object] = lambda _: None

    def judge(self, crossings: Sequence[Crossing], now: Moment) -> None:
        """Decide about clients that went above a limit."""
        ruling = self.ladder.judge(crossings, {}, {}, now.wall)
        for crossing, value in ruling.excused:
            self._engine.excuse(crossing, value, now.boot + SPARED, now.boot, behind=True)
        found = [replace(decision, origin="proxy") for decision in ruling.decisions]
        rows = [_snapshot(decision) for decision in found]
        for row in rows:
            self._add(row, now)
        self._pending += found
        self.enforce([_entry(row, now.wall) for row in rows])

    def drain(self) -> list[Decision]:
        """Return what was decided since the last call."""
        drained = list(self._pending)
        self._pending.clear()
        return drained

    def active(self, wall: float, subject: str = "") -> list[Snapshot]:
        """Return what would be active: of one subject and what lies in it, or all ("")."""
        self._active = {key: row for key, row in self._active.items() if row.until > wall}
        rows = self._active.values()
        return [row for row in rows if not subject or address.inside(row.subject, subject)]

    def unban(self, subject: str, scope: Scope | None) -> None:
        """Remove what would be active against a subject ("": all)."""
        gone = [
            key
            for key in self._active
            if (not subject or key[0] == subject) and scope in (None, key[1])
        ]
        for key in gone:
            del self._active[key]
        self.enforce([Entry(*key, action, 0.0) for key in gone for action in RESTRICTING])

    def acquit(self, keys: Iterable[Key], now: Moment) -> None:
        """End the throttles for guessing whose clients logged in."""
        for key in keys:
            row = self._active.get(key)
            if row is None or (row.action, row.limit) != ("throttle", GUESSING):
                continue
            self._engine.release(*key, behind=True)
            self.unban(*key)
            why = "it logged in"
            ended = Decision(now.wall, "release", *key, GUESSING, 0, now.wall, why, origin="proxy")
            self._pending.append(ended)

    def _add(self, row: Snapshot, now: Moment) -> None:
        if len(self._active) >= _MOST:
            del self._active[min(self._active, key=lambda key: self._active[key].until)]
        key = row.subject, row.scope
        self._active[key] = row
        until = now.boot + row.until - now.wall
        self._engine.hold(*key, row.action, until, now.boot, rate=row.rate, behind=True)


def _snapshot(d: Decision) -> Snapshot:
    action: Action = "ban" if d.action == "ban" else "throttle"
    what = (d.subject, d.scope, action, d.limit, d.level, d.time, d.until, d.why)
    return Snapshot(*what, lines=d.lines, rate=d.rate, origin=d.origin, name=d.name)


def _entry(row: Snapshot, wall: float) -> Entry:
    return Entry(row.subject, row.scope, row.action, row.until - wall, row.rate)


def shown(rows: Iterable[Snapshot]) -> str:
    """Return the first of some entries as a text."""
    row = next(iter(rows))
    done = DONE[row.action]
    return f"{row.subject} would be {done} in {row.scope} by {row.limit}"
