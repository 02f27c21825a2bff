"""`unban` of many subjects: named ones, those inside a network, of a limit, or of a list.

A request's subjects are one transaction of the store and one batch of the kernel; the answer comes
after they were looked up there. A command about more sends several requests (`Part`).
"""

import asyncio
from collections.abc import Container, Mapping, Sequence

from throttled import address
from throttled.control.bulk import MAX_UNBANS, Refusal, UnbanMany, UnbanManyResult
from throttled.control.server import Peer
from throttled.errors import RefusedError, StoreError
from throttled.model import RESTRICTING, Element, Entry, Past, Scope
from throttled.operator.desk import Desk, scopes_of
from throttled.operator.listed import remove_entries
from throttled.operator.unban import exemptions, releases, sentence, unrecorded
from throttled.operator.unknown import refuse_unknown_limit
from throttled.store.store import Filter

Key = tuple[str, Scope]

#: Subjects whose networks are looked up between two iterations of the event loop.
_PIECE = 200
#: Entries of a request of which the journal gets a line; the audit line has the number of all.
_LOGGED = 10


async def unban_many(desk: Desk, request: UnbanMany, _peer: Peer) -> UnbanManyResult:
    """Unban what a request names or selects.

    Raises:
        RefusedError: a filter selects nothing.
        UsageError: there is no such limit.
        StoreError: what a filter selects cannot be read.
    """
    await desk.remove_leftovers()
    if request.subjects:
        return await _named(desk, request)
    if request.name:
        return remove_entries(desk, request.name, MAX_UNBANS)
    return _selected(desk, request)


async def _named(desk: Desk, request: UnbanMany) -> UnbanManyResult:
    scopes = scopes_of(request.scope)
    subjects = list(dict.fromkeys(request.subjects))
    keys = [(subject, scope) for subject in subjects for scope in scopes]
    wall = desk.clock().wall
    try:
        pasts: Mapping[Key, Past] = desk.store.past(keys, wall)
    except StoreError:  # the unban itself reports it
        pasts = {}
    active = {
        key for key, past in pasts.items() if past.action in RESTRICTING and past.until > wall
    }
    in_kernel = desk.lookup(_entries(keys))
    active |= {(each.subject, each.scope) for each in in_kernel or ()}
    until = {key: _exempt_until(pasts.get(key, Past()), request.exempt, wall) for key in keys}
    later, _ = _unban(desk, until, active)
    done = {subject for subject, _ in active} if not request.exempt else set(subjects)
    why: dict[str, str] = {}
    if in_kernel is not None:
        why = {s: f"{s} is neither throttled nor banned" for s in subjects if s not in done}
    exempt = {key for key, end in until.items() if end > wall}
    for at in range(0, len(subjects), _PIECE):
        why |= _blocked(desk, subjects[at : at + _PIECE], scopes, exempt)
        await asyncio.sleep(0)
    refused = [Refusal(at, why[s]) for at, s in enumerate(request.subjects) if s in why]
    count = len(subjects) - len(why)
    return UnbanManyResult(count, refused, _confirmed(desk, keys), message=later)


def _selected(desk: Desk, request: UnbanMany) -> UnbanManyResult:
    wall = desk.clock().wall
    keys: list[Key] = []
    for action in RESTRICTING:  # not what is exempt
        what = Filter(request.scope, action, request.limit, request.within)
        rows = desk.store.listing.snapshots(wall, what, count=MAX_UNBANS - len(keys))
        keys += [(row.subject, row.scope) for row in rows]
    if not keys:
        if request.limit is not None:
            refuse_unknown_limit(request.limit, desk.config().limits)
        raise RefusedError("nothing of that is throttled or banned", "see: throttled list")
    later, recorded = _unban(desk, dict.fromkeys(keys, 0.0), set(keys))
    more = recorded and len(keys) == MAX_UNBANS
    return UnbanManyResult(len(keys), [], _confirmed(desk, keys), more=more, message=later)


def _unban(desk: Desk, until: Mapping[Key, float], active: set[Key]) -> tuple[str, bool]:
    """Unban; return what an operator must know of the store, and whether that recorded it.

    Args:
        desk: what is changed.
        until: the subjects and scopes, and until when each is exempt; 0.0 for not.
        active: those of which something was active.
    """
    moment = desk.clock()
    error = desk.unusable
    try:
        desk.pipeline.unban_many(until, moment)
    except StoreError as failed:  # a full disk must not keep anybody banned
        error = failed
    desk.pipeline.enforcer.apply(_entries(until), moment)
    exempted = [
        decision
        for (subject, scope), end in until.items()
        if end > moment.wall
        for decision in exemptions(subject, {scope: end}, moment.wall)
    ]
    desk.pipeline.decide(exempted, moment)
    first = [key for key in until if key in active][:_LOGGED]
    desk.announce(releases(first, moment.wall), notice=False)
    return unrecorded(desk, error).removeprefix("; "), error is None


def _entries(keys: Sequence[Key] | Mapping[Key, float]) -> list[Entry]:
    return [Entry(subject, scope, a, 0.0) for subject, scope in keys for a in RESTRICTING]


def _exempt_until(past: Past, asked: float, wall: float) -> float:
    """Return until when a subject is exempt: as asked, or as long as it is already."""
    if asked:
        return wall + asked
    return past.exempt_until


def _blocked(
    desk: Desk, subjects: Sequence[str], scopes: Sequence[Scope], exempt: Container[Key]
) -> dict[str, str]:
    """Return which subjects a network around them still throttles or bans, with a sentence each.

    Networks of the lengths that the database has are looked up in the kernel, each once.
    """
    lengths = _lengths(desk)
    around = {
        subject: _around(subject, lengths)
        for subject in subjects
        if not address.is_named(subject) and not desk.protection.reason(subject)
    }
    keys = [(network, scope) for nets in around.values() for network in nets for scope in scopes]
    present: dict[str, list[Element]] = {}
    for element in desk.lookup(_entries(dict.fromkeys(keys, 0.0))) or ():
        present.setdefault(element.subject, []).append(element)
    found = {}
    for subject, networks in around.items() if present else ():
        still = [
            element
            for network in networks
            for element in present.get(network, ())
            if (subject, element.scope) not in exempt
        ]
        if still:
            found[subject] = f"{subject} is {sentence(still)}"
    return found


def _lengths(desk: Desk) -> set[int]:
    """Return the prefix lengths of networks that may be active; all where that is not known."""
    try:
        return desk.store.active.prefix_lengths() | {24, 64}
    except StoreError:
        return set(range(129))


def _around(subject: str, lengths: set[int]) -> list[str]:
    """Return the networks of some lengths that a subject lies in, the narrowest first."""
    packed, prefix = address.parse(subject)
    shorter = (length for length in sorted(lengths, reverse=True) if length < prefix)
    return [address.text(address.mask(packed, length), length) for length in shorter]


def _confirmed(desk: Desk, keys: Sequence[Key]) -> bool:
    """Return whether the kernel has no entry of these subjects any more."""
    if desk.error is not None or desk.leftover is not None:
        return False
    return desk.lookup(_entries(keys)) == []
