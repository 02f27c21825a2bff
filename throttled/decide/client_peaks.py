"""Peaks of clients that an engine noted, until the store has them. Pure.

Owns nothing: a peak is in its gauge.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from throttled.decide.limits import CountGauge, NameGauge
from throttled.limits import Count
from throttled.model import Peak, Scope

Gauges = Sequence[CountGauge | NameGauge]


def noted(gauges: Gauges, most: int) -> list[Peak]:
    """Return some peaks of clients; the same again until `recorded` is called with them."""
    every = (
        Peak(client, gauge.scope, gauge.limit, gauge.count, gauge.within, value)
        for gauge in gauges
        if gauge.peaks is not None
        for client, value in gauge.peaks.highest.items()
    )
    return list(islice(every, most))


def watched(gauges: Gauges) -> list[tuple[Scope, str, Count, float]]:
    """Return of which limits it is recorded: scope, name, what it counts, window in seconds."""
    return [(g.scope, g.limit, g.count, g.within) for g in gauges if not g.kernel]


def recorded(gauges: Gauges, peaks: Iterable[Peak]) -> None:
    """Remove the peaks that are recorded in the store."""
    known = {(g.scope, g.limit, g.within): g.peaks for g in gauges if not g.kernel}
    for peak in peaks:
        noted = known.get((peak.scope, peak.limit, peak.within))
        if noted is not None:
            noted.written(peak.client, peak.value)
