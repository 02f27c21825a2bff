"""Lists by name: their entries are judged, replaced and removed as a whole.

What came from a list has it as its origin. What a list names and is active for another reason is
in the store as its claim (`store.listed`), and follows when a list that named it too is replaced or
removed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from throttled.control.bulk import LASTING, UnbanManyResult
from throttled.control.requests import Entered, Import
from throttled.core.extended import remaining
from throttled.decide.ladder import OPERATOR
from throttled.decide.listed import Listed, Lists, origin
from throttled.errors import RefusedError, StoreError
from throttled.model import RESTRICTING, Decision, Entry, Scope, Snapshot
from throttled.operator.desk import Desk, scopes_of
from throttled.store.listed import Claim
from throttled.store.store import Filter, Key

log = logging.getLogger(__name__)

#: Entries of one list that may be active.
MOST = 200_000
#: Parts of a command of which one counts them: it takes 0.1 s for a million rows.
_COUNTED = 50
#: Entries between two iterations of the event loop: some milliseconds.
_PIECE = 100


async def punish_listed(
    desk: Desk, request: Import, entries: Sequence[Entered], outcomes: Counter[str]
) -> tuple[dict[int, str], bool]:
    """Judge, record and apply entries of a list.

    Args:
        desk: what is changed.
        request: names the list, and which part of a command it is.
        entries: none with the action `allow`.
        outcomes: increased.

    Returns:
        Why entries were refused, by their place; whether the kernel confirmed the rest.
    """
    assert desk.lists is not None  # noqa: S101 - only a running daemon imports
    name = request.name
    if request.part is None or request.part.number == 1:
        with _recording(name):
            desk.store.claims.remove(name)
    if request.part is None or request.part.number % _COUNTED == 1:
        count = desk.store.listing.total(desk.clock().wall, Filter(origin=origin(name)))
        if entries and count >= MOST:
            why = f"the list {name} has {MOST} active entries already"
            return dict.fromkeys(range(len(entries)), why), True
    refused: dict[int, str] = {}
    confirmed = True
    for at in range(0, len(entries), _PIECE):
        places, listed = _listed(entries[at : at + _PIECE], at)
        confirmed &= _piece(desk, name, (places, listed), refused, outcomes, desk.lists)
        await asyncio.sleep(0)
    return refused, confirmed


def _listed(entries: Sequence[Entered], first: int) -> tuple[list[int], list[Listed]]:
    """Return entries in their scopes, each with the place of its entry."""
    pairs = [
        (
            place,
            Listed(
                entry.subject,
                scope,
                "ban" if entry.action == "ban" else "throttle",
                entry.seconds or LASTING,
                entry.why,
            ),
        )
        for place, entry in enumerate(entries, first)
        for scope in scopes_of(entry.scope)
    ]
    return [place for place, _ in pairs], [listed for _, listed in pairs]


def _piece(  # noqa: PLR0913, PLR0917 - what goes in, and the three things that come out
    desk: Desk,
    name: str,
    piece: tuple[list[int], list[Listed]],
    refused: dict[int, str],
    outcomes: Counter[str],
    lists: Lists,
) -> bool:
    """Do a piece of a list; return whether the kernel confirmed it."""
    places, listed = piece
    moment = desk.clock()
    keys = [(one.subject, one.scope) for one in listed]
    pasts = desk.store.past(keys, moment.wall)
    throttles = [(one.subject, one.scope) for one in listed if one.action == "throttle"]
    weaker = _rows(desk, name, [key for key in throttles if pasts[key].action == "ban"])
    if weaker:  # the list itself banned them until now
        release(desk, name, weaker)
        pasts = desk.store.past(keys, moment.wall)
    judged = lists.judge(name, listed, pasts, moment.wall)
    decided = {(d.subject, d.scope) for d in judged.decisions}
    known = [
        Claim(name, one.subject, one.scope, one.action, moment.wall + one.seconds, one.why)
        for at, one in enumerate(listed)
        if at not in judged.refused and (one.subject, one.scope) not in decided
    ]
    if known:
        with _recording(name):
            desk.store.claims.add(known)
    refused |= {places[at]: why for at, why in judged.refused.items()}
    outcomes.update(judged.outcomes)
    if not judged.decisions:
        return True
    desk.pipeline.decide_peers(judged.decisions, pasts, moment, None)
    desk.announce([d for d in judged.decisions if d.alert], notice=True)
    wanted = [
        Entry(d.subject, d.scope, d.action, 0.0) for d in judged.decisions if d.action != "release"
    ]
    return len(desk.lookup(wanted) or ()) == len(wanted)


@contextmanager
def _recording(name: str) -> Iterator[None]:
    """Continue without what a list names where that cannot be recorded."""
    try:
        yield
    except StoreError as error:
        log.warning("what the list %s names is not recorded: %s", name, error.message)


def release(desk: Desk, name: str, rows: Sequence[Snapshot]) -> bool:
    """Remove what came from a list and is active; return whether the kernel confirmed it.

    What another list names too stays active as that one's, and so does what this host itself or a
    peer decided. Unlike an unban it resets no counts: what a client did to this host still counts.

    Args:
        desk: what is changed.
        name: of the list.
        rows: active now.
    """
    moment = desk.clock()
    what = OPERATOR, 0, moment.wall, f"no longer on the list {name}"
    releases = [
        Decision(moment.wall, "release", row.subject, row.scope, *what, origin=origin(name))
        for row in rows
    ]
    keys = [(row.subject, row.scope) for row in rows]
    restored, pasts = remaining(desk.pipeline, keys, origin(name), moment.wall, desk.lists)
    desk.pipeline.decide_peers([*releases, *restored], pasts, moment, None)
    looked = [Entry(*key, action, 0.0) for key in keys for action in RESTRICTING]
    found = {(e.subject, e.scope, e.action) for e in desk.lookup(looked) or ()}
    return found == {(d.subject, d.scope, d.action) for d in restored}


def remove_keys(
    desk: Desk, name: str, keys: Sequence[tuple[str, Scope]], outcomes: Counter[str]
) -> bool:
    """Remove entries of a list that came from it; return whether the kernel confirmed that.

    Args:
        desk: what is changed.
        name: of the list.
        keys: the entries.
        outcomes: increased.
    """
    with _recording(name):
        desk.store.claims.remove(name, keys)
    rows = _rows(desk, name, keys)
    outcomes["removed"] += len(rows)
    return release(desk, name, rows)


def _rows(desk: Desk, name: str, keys: Sequence[Key]) -> list[Snapshot]:
    """Return what is active of some subjects and came from a list."""
    wall = desk.clock().wall
    return [
        row
        for subject, scope in keys
        for row in desk.store.listing.snapshots(
            wall, Filter(scope, subject=subject, origin=origin(name))
        )
    ]


def remove_entries(desk: Desk, name: str, count: int) -> UnbanManyResult:
    """Remove up to `count` entries of a list.

    Args:
        desk: what is changed.
        name: of the list.
        count: of entries.

    Raises:
        RefusedError: nothing that came from it is active.
    """
    wall, what = desk.clock().wall, Filter(origin=origin(name))
    with _recording(name):
        desk.store.claims.remove(name)
    rows = desk.store.listing.snapshots(wall, what, count=count)
    if not rows:
        raise RefusedError(f"nothing is active from a list {name}", "see: throttled list")
    confirmed = release(desk, name, rows)
    recorded = desk.pipeline.recorder.error is None
    more = recorded and bool(desk.store.listing.snapshots(wall, what, count=count))
    return UnbanManyResult(len(rows), [], confirmed, more=more)
