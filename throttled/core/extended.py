"""Removing what came from a peer or a list, and not what others decided.

A peer's or a list's ban of a subject that is banned for a shorter time extends the entry, which
then has the other's origin. When that is removed, what this host itself decided, what another peer
banned and what a list names is active again until it ends; what a list names also when what took
the place of its entry expires. Owns no state.
"""

from collections.abc import Mapping, Sequence

from msgspec import MsgspecError, msgpack
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.recorder import Key
from throttled.decide.listed import Listed, Lists
from throttled.model import Decision, Past
from throttled.store.fleet import AHEAD
from throttled.store.store import Store

_REMOVED = "fleet-removed"
#: Peers of which it is known when they were removed.
_MOST = 256
_EVER = 1e300
#: What a list names for less is over with what was active.
_GRAIN = 1.0


def removed(store: Store, wall: float) -> dict[str, float]:
    """Return when peers were removed: what they decided before is over.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        found = msgpack.decode(store.known.get(_REMOVED) or b"\x80", type=dict[str, float])
    except MsgspecError:
        return {}
    return {name: at for name, at in found.items() if at <= wall + AHEAD}


def note_removed(store: Store, name: str, wall: float) -> None:
    """Record that a peer is removed.

    Raises:
        StoreError: it cannot be recorded.
    """
    latest = sorted((removed(store, wall) | {name: wall}).items(), key=lambda pair: pair[1])
    store.known.put(_REMOVED, msgpack.encode(dict(latest[-_MOST:])), wall)


def remaining(
    pipeline: Pipeline, keys: Sequence[Key], origin: str, wall: float, lists: Lists | None = None
) -> tuple[list[Decision], Mapping[Key, Past]]:
    """Return what is to be active of subjects of which an entry is removed, and their past.

    Args:
        pipeline: with the store and what is protected.
        keys: subjects and scopes.
        origin: of the entries: a peer or a list.
        wall: now.
        lists: the judge of lists; None: one without brakes.

    Raises:
        StoreError: it cannot be read.
    """
    store, protected = pipeline.recorder.store, pipeline.ladder.protection.reason
    kind, _, of = origin.partition(":")
    peers = removed(store, wall) | ({of: _EVER} if kind == "peer" else {})
    decided = [d for d in store.fleet.remaining(keys, wall, peers) if not protected(d.subject)]
    kept = {(d.subject, d.scope): d for d in decided}
    pasts = store.past(keys, wall)
    without = {key: _without(past, kept.get(key)) for key, past in pasts.items()}
    name = of if kind == "list" else ""
    claims = claimed(pipeline, without, wall, name=name, lists=lists)
    kept |= {(d.subject, d.scope): d for d in claims}
    return list(kept.values()), pasts


def claimed(
    pipeline: Pipeline,
    pasts: Mapping[Key, Past],
    wall: float,
    *,
    name: str = "",
    lists: Lists | None = None,
) -> list[Decision]:
    """Return what lists name of subjects that is stronger than what is active of these.

    Args:
        pipeline: with the store.
        pasts: what is known of the subjects, by subject and scope.
        wall: now.
        name: of a list that does not count.
        lists: the judge of lists; None: one without brakes.

    Raises:
        StoreError: it cannot be read.
    """
    claims: dict[str, list[Listed]] = {}
    others = pipeline.recorder.store.claims.others(name, list(pasts), wall + _GRAIN)
    for key, claim in others.items():
        entry = Listed(*key, claim.action, claim.until - wall, claim.why)
        claims.setdefault(claim.list, []).append(entry)
    judge = lists or Lists(pipeline.ladder)
    judged = [judge.judge(of, listed, pasts, wall) for of, listed in claims.items()]
    return [decision for each in judged for decision in each.decisions]


def _without(past: Past, decided: Decision | None) -> Past:
    """Return what is known of a subject, with a decision in place of the entry removed."""
    if decided is None:
        return replace(past, action=None, until=0.0)
    return replace(past, action=decided.action, until=decided.until, rate=decided.rate)


def remove(
    pipeline: Pipeline, releases: Sequence[Decision], kept: Sequence[Decision], now: Moment
) -> None:
    """Remove entries of peers.

    Args:
        pipeline: records and applies.
        releases: of the entries, all with the origin of another.
        kept: what is active again of their subjects.
        now: both clocks.
    """
    bans = {(d.subject, d.scope): d for d in kept if d.action == "ban"}
    throttles = {(d.subject, d.scope): d for d in kept if d.action == "throttle"}
    # A ban takes the place of a ban, a throttle only that of what is not there.
    pipeline.decide([d for d in releases if (d.subject, d.scope) not in bans], now)
    for again in (bans, throttles):
        if again:
            pipeline.decide(list(again.values()), now, before=dict.fromkeys(again))
