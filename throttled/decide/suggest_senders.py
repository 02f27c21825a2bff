"""From what senders did to thresholds that fit. Pure: no clock, no I/O.

The rule of `throttled.decide.suggest`, for senders that were not above the limit: `soft` is a
quarter above the highest of them. Those above it may be compromised: they raise nothing, they are
listed. Nothing is proposed from fewer than ten such senders, from less than a day or three windows,
and where none of them has a value.

Owns no state.
"""

from collections.abc import Iterable, Iterator
from statistics import median_high

from msgspec import Struct

from throttled.decide.sender_peaks import WatchedSenders
from throttled.decide.suggest import propose, too_little, up
from throttled.limits import MOST, MOST_BYTES, AnyCount, Limit, default_limits
from throttled.subjects import Of

_ENOUGH = 10
_LISTED = 20


class Pair(Struct, frozen=True):
    """Thresholds. 0 = no such threshold."""

    soft: int
    hard: int


class SenderPeak(Struct, frozen=True):
    """A sender that was above a limit."""

    subject: str
    peak: int


class SenderSuggestion(Struct, frozen=True):
    """What was seen of one limit of senders, and what follows."""

    limit: str
    of: Of
    count: AnyCount
    within: float  # seconds
    senders: int  # that were not above it
    usual: int  # the median of their peaks
    highest: int  # of their peaks
    above: int  # senders that were above it
    above_senders: list[SenderPeak]  # the highest of them, at most twenty
    now: Pair
    proposed: Pair | None
    reason: str  # of the proposal, or why nothing is proposed


def suggest_senders(every: Iterable[WatchedSenders], span: float) -> Iterator[SenderSuggestion]:
    """Yield what follows for each limit of senders.

    Args:
        every: what senders did.
        span: how many seconds were seen.
    """
    for watched in every:
        yield _suggestion(watched, span)


def _suggestion(watched: WatchedSenders, span: float) -> SenderSuggestion:
    limit = watched.limit
    soft, hard = limit.soft or 0, limit.hard or 0
    above = {who: peak for who, peak in watched.peaks.items() if peak > (soft or hard)}
    others = [peak for who, peak in watched.peaks.items() if who not in above]
    count = watched.senders - len(above)
    highest = max(others, default=0)
    why_not = watched.missing or too_little(
        count, span, float(limit.within), _ENOUGH, "senders below the limit"
    )
    if not why_not and not highest:
        why_not = "no sender below the limit did it"
    least = min(soft or hard, up(_default(watched), 2))
    most = MOST_BYTES if limit.count == "bytes" else MOST
    ranked = sorted(above.items(), key=lambda item: (-item[1], item[0]))[:_LISTED]
    return SenderSuggestion(
        watched.name,
        limit.of,
        limit.count,
        float(limit.within),
        count,
        median_high([*others, *[0] * (count - len(others))]) if count else 0,
        highest,
        len(above),
        [SenderPeak(*item) for item in ranked],
        Pair(soft, hard),
        None if why_not else Pair(*propose(soft, hard, least, highest, most)),
        why_not or _reason(limit, count, highest),
    )


def _default(watched: WatchedSenders) -> int:
    """Return the lower threshold that the limit comes with; of an operator's own what it is."""
    limit = watched.limit
    base = default_limits().get(watched.name, limit)
    if (base.of, base.count, base.within) != (limit.of, limit.count, limit.within):
        base = limit
    return base.soft or base.hard or 0


def _reason(limit: Limit, count: int, highest: int) -> str:
    reason = f"the highest of {count:,} senders that were not above the limit is {highest:,}"
    if limit.share:
        reason += f"; values up to {limit.share} of the recipients are left out"
    if limit.usual:
        reason += f"; values up to {limit.usual} times the sender's highest day are left out"
    return reason
