"""Unbans that operators of peers published, and what they change here.

They are recorded in one transaction with the position of the peer's stream. An unban acts on what
was decided before it was published: an own decision that is newer stays, and so does each own one
where the configuration says so. Bans that were published before it have no effect when they are
read later. Owns no state.
"""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, json

from throttled.clock import Moment
from throttled.core.extended import remove
from throttled.core.pipeline import Pipeline
from throttled.core.recorder import Key
from throttled.decide.ladder import OPERATOR
from throttled.decide.peers import EXEMPT, PeerBan, acceptable
from throttled.fleet.wire import Unban, seconds_left
from throttled.model import RESTRICTING, Change, Decision, Entry, Snapshot
from throttled.store.fleet import AHEAD
from throttled.store.store import Filter, StoredPosition

#: An own decision that is newer than an unban by less was published before it was made.
_GRAIN = 1.0


class Published(Struct, frozen=True):
    """When and by whom unbans were published."""

    peer: str
    at: float  # wall clock of this host
    age: int  # milliseconds by the Redis server's clock
    position: StoredPosition  # of the peer's stream, after them


def act(
    pipeline: Pipeline, rows: Sequence[Unban], of: Published, now: Moment, *, own: bool
) -> tuple[Counter[str], list[Decision]]:
    """Unban subjects.

    Args:
        pipeline: records and applies.
        rows: of an entry.
        of: whose, and when.
        now: both clocks.
        own: what was decided here is unbanned too.

    Returns:
        Rows by what became of them, and the releases.

    Raises:
        StoreError: it cannot be recorded; all of it is to be done again.
    """
    plan = _Plan(pipeline, of, now, own=own)
    outcomes = Counter(map(plan.add, rows))
    if plan.extended:
        keys = [(d.subject, d.scope) for d in plan.extended]
        own_ones = pipeline.recorder.store.fleet.remaining(keys, now.wall)
        remove(pipeline, plan.extended, own_ones, now)
    what = plan.exempt, plan.noted, of.at, now
    origin, changes, position = f"peer:{of.peer}", plan.changes, of.position
    pipeline.unban_of_peer(*what, origin=origin, changes=changes, position=position)
    removed = [Entry(*key, action, 0.0) for key in plan.exempt for action in RESTRICTING]
    pipeline.enforcer.apply(removed, now)
    return outcomes, [plan.release(key) for key in plan.exempt]


class _Plan:
    """What is to be done about unbans."""

    def __init__(self, pipeline: Pipeline, of: Published, now: Moment, *, own: bool) -> None:
        self.exempt: dict[Key, float] = {}  # to be unbanned, and until when they are exempt
        self.noted: list[Key] = []  # when they were unbanned is recorded
        self.extended: list[Decision] = []  # releases of what extends own decisions that stay
        self.changes: list[Change] = []
        self._store, self._of, self._now, self._own = pipeline.recorder.store, of, now, own
        self._why = f"unbanned by an operator of {of.peer}"

    def add(self, row: Unban) -> str:
        """Add an unban; return what becomes of it."""
        if not acceptable(PeerBan(row.subject, row.scope, 0.0, OPERATOR, 0, 0, 0)):
            return "refused"
        key, wall = (row.subject, row.scope), self._now.wall
        found = self._store.listing.snapshots(wall, Filter(row.scope, subject=row.subject))
        active = [each for each in found if each.action != "exempt"]
        exempt = seconds_left(row.exempt, self._of.age, EXEMPT)
        if not active and not exempt:
            self.noted.append(key)
            return "known"
        if self._stays(key, active, exempt):
            return "kept"
        self.exempt[key] = wall + exempt if exempt else 0.0
        request = json.encode(row).decode()
        what = 0, f"peer:{self._of.peer}", 0, "", "unban", row.subject, request
        self.changes.append(Change(wall, *what, self._why, ok=True))
        return "unbanned"

    def _stays(self, key: Key, active: Sequence[Snapshot], exempt: float) -> bool:
        """Return whether an own decision stays; what only extends it does not."""
        if self._own and exempt:
            return False
        if any(not row.origin.startswith("peer:") and self._newer(row.since) for row in active):
            return True
        own = self._store.fleet.remaining([key], self._now.wall)
        if any(self._newer(decision.time) for decision in own):
            self.noted.append(key)
            self.extended.append(self.release(key))
            return True
        return False

    def _newer(self, decided: float) -> bool:
        """Return whether what was decided at a time, wall clock, is newer than the unbans."""
        return not self._own or self._of.at + _GRAIN < decided <= self._now.wall + AHEAD

    def release(self, key: Key) -> Decision:
        """Return the release of a subject, by the peer."""
        wall = self._now.wall
        what = *key, OPERATOR, 0, wall, self._why
        return Decision(wall, "release", *what, origin=f"peer:{self._of.peer}")
