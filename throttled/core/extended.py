"""Removing what came from a peer or a list, and not what this host itself decided.

A peer's or a list's ban of a subject that this host bans for a shorter time extends the entry,
which then has the other's origin. When that is removed, the own decision is active again until it
ends. Owns no state.
"""

from collections.abc import Sequence

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.recorder import Key
from throttled.model import Decision


def remove(pipeline: Pipeline, releases: Sequence[Decision], now: Moment) -> set[Key]:
    """Remove entries; return those that this host's own decisions remain of.

    Args:
        pipeline: records and applies.
        releases: of the entries, all with the origin of another.
        now: both clocks.

    Raises:
        StoreError: the history cannot be read; nothing is removed.
    """
    own = pipeline.recorder.store.fleet.extended([(d.subject, d.scope) for d in releases], now.wall)
    bans = {(d.subject, d.scope): d for d in own if d.action == "ban"}
    throttles = {(d.subject, d.scope): d for d in own if d.action == "throttle"}
    # A ban takes the place of a ban, a throttle only that of what is not there.
    pipeline.decide([d for d in releases if (d.subject, d.scope) not in bans], now)
    for kept in (bans, throttles):
        if kept:
            pipeline.decide(list(kept.values()), now, before=dict.fromkeys(kept))
    return {*bans, *throttles}
