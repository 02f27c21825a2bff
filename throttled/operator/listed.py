"""Lists by name: their entries are judged, replaced and removed as a whole.

What came from a list has it as its origin; the store knows it by that alone.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from throttled.control.bulk import LASTING, UnbanManyResult
from throttled.control.protocol import Entered, Import
from throttled.core.extended import remove
from throttled.decide.ladder import OPERATOR
from throttled.decide.listed import Listed, Lists, origin
from throttled.errors import RefusedError
from throttled.model import RESTRICTING, Decision, Entry, Scope, Snapshot
from throttled.operator.desk import Desk, scopes_of
from throttled.store.store import Filter

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
    if request.part is None or request.part.number % _COUNTED == 1:
        count = desk.store.total(desk.clock().wall, Filter(origin=origin(name)))
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
    pasts = desk.store.past([(one.subject, one.scope) for one in listed], moment.wall)
    judged = lists.judge(name, listed, pasts, moment.wall)
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


def release(desk: Desk, name: str, rows: Sequence[Snapshot]) -> bool:
    """Remove what came from a list and is active; return whether the kernel confirmed it.

    Unlike an unban it resets no counts: what a client did to this host still counts, and own
    decisions that the list extended are active again.

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
    own = remove(desk.pipeline, releases, moment)
    gone = [(row.subject, row.scope) for row in rows if (row.subject, row.scope) not in own]
    removed = [Entry(*key, action, 0.0) for key in gone for action in RESTRICTING]
    return desk.lookup(removed) == []


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
    wall = desk.clock().wall
    rows = [
        row
        for subject, scope in keys
        for row in desk.store.snapshots(wall, Filter(scope, subject=subject, origin=origin(name)))
    ]
    outcomes["removed"] += len(rows)
    return release(desk, name, rows)


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
    rows = desk.store.snapshots(wall, what, count=count)
    if not rows:
        raise RefusedError(f"nothing is active from a list {name}", "see: throttled list")
    confirmed = release(desk, name, rows)
    recorded = desk.pipeline.recorder.error is None
    more = recorded and bool(desk.store.snapshots(wall, what, count=count))
    return UnbanManyResult(len(rows), [], confirmed, more=more)
