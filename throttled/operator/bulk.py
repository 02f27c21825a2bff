"""What operators ban, throttle and allow by hand, singly or by a list.

A list is done in pieces, between which the loop goes on; an entry that is refused stops no other.
Owns nothing: it steers the daemon that it is handed.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from throttled.clock import Moment, now
from throttled.control.protocol import AllowRow, Entered, Import, ImportResult, Refusal
from throttled.control.server import Peer
from throttled.errors import BackendError, RefusedError, StoreError
from throttled.model import ACTIONS, SCOPES, Action, Decision, Entry, Past, Scope, Seen
from throttled.store.rows import Allowed

if TYPE_CHECKING:
    from throttled.service.daemon import Daemon

log = logging.getLogger(__name__)

#: Entries between two turns of the loop: some milliseconds.
_PIECE = 50


async def bring(daemon: "Daemon", request: Import, peer: Peer) -> ImportResult:
    """Do what a list says, as far as it can be done."""
    refused: list[Refusal] = []
    confirmed = True
    entries = list(enumerate(request.entries))
    for piece in _pieces([pair for pair in entries if pair[1].action != "allow"]):
        why = punish(daemon, [entry for _, entry in piece], peer, now(), told=False)
        refused += [Refusal(piece[at][0], error.message) for at, error in why.items()]
        asked = [
            Entry(entry.subject, scope, action, 0.0)
            for at, (_, entry) in enumerate(piece)
            if at not in why and (action := entry.action) != "allow"
            for scope in _scopes(entry)
        ]
        # A list may name somebody twice: the last word counts.
        last = {(entry.subject, entry.scope): entry for entry in asked}
        confirmed &= len(held(daemon, last.values()) or ()) == len(last)
        await asyncio.sleep(0)
    allowed = []
    failing = ""  # the store, once it failed: what it is asked in vain may take 0.1 s each
    for piece in _pieces([pair for pair in entries if pair[1].action == "allow"]):
        for index, entry in piece:
            try:
                if not failing:
                    allow(daemon, entry.subject, entry.seconds, entry.why, now())
                    allowed.append(entry.subject)
            except RefusedError as error:
                refused.append(Refusal(index, error.message))
            except StoreError as error:
                failing = error.message
            if failing:
                refused.append(Refusal(index, failing))
        await asyncio.sleep(0)
    if allowed:
        daemon.apply_configuration()
        await daemon.protected.settled()
    confirmed &= daemon.pipeline.enforcer.fault is None
    refused.sort(key=lambda refusal: refusal.index)
    return ImportResult(len(entries) - len(refused), refused, confirmed)


def punish(
    daemon: "Daemon", entries: Sequence[Entered], peer: Peer, moment: Moment, *, told: bool = True
) -> dict[int, RefusedError]:
    """Ban and throttle in one batch; return what was refused, by its place.

    Args:
        daemon: whose kernel and store.
        entries: whom; none with the action `allow`.
        peer: who asked.
        moment: now.
        told: each is told to the log.
    """
    keys = [(entry.subject, scope) for entry in entries for scope in _scopes(entry)]
    try:
        pasts = daemon.store.past(keys, moment.wall)
    except StoreError as error:
        log.error("%s; by hand, without history. %s", error.message, error.hint)
        pasts = dict.fromkeys(keys, Past())
    refused: dict[int, RefusedError] = {}
    decisions: dict[tuple[str, Scope], Decision] = {}
    by_hand = daemon.pipeline.ladder.by_hand
    for at, entry in enumerate(entries):
        action: Action = "throttle" if entry.action == "throttle" else "ban"
        why = f"by hand, uid {peer.uid}" + (f": {entry.why}" if entry.why else "")
        try:
            for scope in _scopes(entry):
                key = entry.subject, scope
                decisions[key] = by_hand(
                    action, *key, pasts[key], moment.wall, seconds=entry.seconds, why=why
                )
        except RefusedError as error:
            refused[at] = error
    # What is in force gives way: a ban to a shorter ban, or to a throttle, if he says so.
    releases = [
        replace(d, action="release", level=0, until=moment.wall, rate=None)
        for key, d in decisions.items()
        if pasts[key].action not in (None, d.action)
    ]
    daemon.pipeline.decide([*releases, *decisions.values()], moment, renewed=pasts)
    daemon.announcer(list(decisions.values()), told=told)
    return refused


def allow(daemon: "Daemon", what: str, seconds: float | None, note: str, moment: Moment) -> None:
    """Put something on the allowlist; it counts when the configuration is applied.

    Raises:
        RefusedError: the list is full.
    """
    until = moment.wall + seconds if seconds else 0.0
    daemon.store.allow(what, until, note, moment.wall)


def allow_row(row: Allowed) -> AllowRow:
    """Return an entry of the allowlist as it is shown."""
    until, missing = row.until or None, row.missing or None
    return AllowRow(row.what, row.since, until, row.note, row.name, missing)


def remove(daemon: "Daemon", named: Iterable[Entry | Seen]) -> None:
    """Take subjects out of the kernel, whatever it does to them."""
    removed = [Entry(each.subject, each.scope, a, 0.0) for each in named for a in ACTIONS]
    daemon.pipeline.enforcer.apply(removed, now())


def held(daemon: "Daemon", entries: Iterable[Entry]) -> list[Seen] | None:
    """Return what the kernel holds of these; None where it cannot be asked."""
    try:
        return daemon.backend.lookup(entries)
    except BackendError as error:
        log.error("%s; what was asked for is not confirmed. %s", error.message, error.hint)
        return None


def _scopes(entry: Entered) -> tuple[Scope, ...]:
    return SCOPES if entry.scope is None else (entry.scope,)


def _pieces(
    pairs: Sequence[tuple[int, Entered]],
) -> Iterator[Sequence[tuple[int, Entered]]]:
    return (pairs[at : at + _PIECE] for at in range(0, len(pairs), _PIECE))
