"""`import`: ban, throttle and allow what is on a list.

A list is done in pieces, between which the event loop continues; a refused entry stops no other.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

from throttled.control.bulk import Refusal
from throttled.control.requests import Entered, Import
from throttled.control.results import ImportResult
from throttled.control.server import Peer
from throttled.errors import RefusedError, StoreError
from throttled.model import Entry
from throttled.operator.allow import store_entry
from throttled.operator.ban import punish
from throttled.operator.desk import Desk, scopes_of
from throttled.operator.listed import punish_listed, remove_keys

#: Entries between two iterations of the event loop: some milliseconds.
_PIECE = 50

Numbered = tuple[int, Entered]


async def import_list(desk: Desk, request: Import, peer: Peer) -> ImportResult:
    """Do what a list says, as far as it can be done."""
    entries = list(enumerate(request.entries))
    refused: list[Refusal] = []
    confirmed = True
    outcomes = Counter[str]()
    punished = [pair for pair in entries if pair[1].action != "allow"]
    if request.name:
        listed = [entry for _, entry in punished]
        why, confirmed = await punish_listed(desk, request, listed, outcomes)
        refused += [Refusal(punished[at][0], text) for at, text in why.items()]
        punished = []
        if request.remove:
            confirmed &= remove_keys(desk, request.name, request.remove, outcomes)
    for piece in _pieces(punished):
        confirmed &= _punish(desk, piece, peer, refused)
        await asyncio.sleep(0)
    allowed = await _allow(desk, [pair for pair in entries if pair[1].action == "allow"], refused)
    if allowed:
        desk.reconfigure()
        await desk.protected.settled()
    confirmed &= desk.error is None
    refused.sort(key=lambda refusal: refusal.index)
    return ImportResult(len(entries) - len(refused), refused, confirmed, outcomes=dict(outcomes))


def _punish(desk: Desk, piece: Sequence[Numbered], peer: Peer, refused: list[Refusal]) -> bool:
    """Ban and throttle; return whether the kernel confirmed all that was not refused."""
    why = punish(desk, [entry for _, entry in piece], peer, notice=False)
    refused += [Refusal(piece[at][0], error.message) for at, error in why.items()]
    # A list may name a subject twice: the last entry counts.
    last = {
        (entry.subject, scope): Entry(entry.subject, scope, action, 0.0)
        for at, (_, entry) in enumerate(piece)
        if at not in why and (action := entry.action) != "allow"
        for scope in scopes_of(entry.scope, entry.subject)
    }
    return len(desk.lookup(last.values()) or ()) == len(last)


async def _allow(desk: Desk, entries: Sequence[Numbered], refused: list[Refusal]) -> int:
    """Put entries on the allowlist; return how many."""
    allowed = 0
    failing = ""  # the store, once it failed: each further try may take 0.1 s
    for piece in _pieces(entries):
        for index, entry in piece:
            try:
                if not failing:
                    store_entry(desk, entry.subject, entry.seconds, entry.why)
                    allowed += 1
            except RefusedError as error:
                refused.append(Refusal(index, error.message))
            except StoreError as error:
                failing = error.message
            if failing:
                refused.append(Refusal(index, failing))
        await asyncio.sleep(0)
    return allowed


def _pieces(pairs: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    return (pairs[at : at + _PIECE] for at in range(0, len(pairs), _PIECE))
