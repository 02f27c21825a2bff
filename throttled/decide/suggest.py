"""From what clients did in a log to thresholds that fit. Pure: no clock, no I/O.

The rule: soft is a quarter above the highest that a good client reached, rounded up to a pleasant
number; hard stays as many times soft as it is, and where a limit has no soft it is twice that
highest. Neither is lowered below half of what throttled comes with (of what it is, for a limit of
the operator's own): the good clients of tomorrow are not in the log.

One good client in a thousand may lie above the highest; and one that did more than twenty times
what it delivered and logged in says nothing: its bad outweighs its good. Nothing is proposed from
fewer than 30 good clients, from less than a day or three windows, and where no good client did it.

Owns no state; what clients did is in `throttled.decide.peaks`.
"""

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from msgspec import Struct

from throttled.decide.limits import Gauges, Meter
from throttled.decide.peaks import Good, Reached, Watched
from throttled.limits import MOST, Count
from throttled.model import Scope
from throttled.settings import Policy

_SENDERS = 20
_DAY = 86400.0
_ENOUGH = 30
#: A client that did more than so many times what it delivered and logged in says nothing.
_OUTWEIGHS = 20
_PLEASANT = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)


class Sender(Struct, frozen=True):
    """A good client that a threshold would hit."""

    client: str
    peak: int
    deliveries: int
    logins: int


class Thresholds(Struct, frozen=True):
    """Thresholds, and whom they would hit. 0 = no such threshold."""

    soft: int
    hard: int
    strangers_above_soft: int
    strangers_above_hard: int
    good_above_soft: int
    good_above_hard: int
    senders: list[Sender]  # the highest good clients above the lower threshold, at most twenty


class Bin(Struct, frozen=True):
    """Clients whose peaks are from `low` to `high`."""

    low: int
    high: int
    good: int
    strangers: int


class Suggestion(Struct, frozen=True):
    """What was seen of one limit in one scope, and what follows."""

    limit: str
    scope: Scope
    count: Count
    within: float  # seconds
    good: int  # clients seen in the scope
    strangers: int
    highest: int  # of the good clients that count
    bins: list[Bin]
    now: Thresholds
    proposed: Thresholds | None
    why_not: str  # where nothing is proposed


def suggest(
    scopes: Iterable[Reached],
    span: Callable[[Watched], float],
    spared: Callable[[str], object],
) -> Iterator[Suggestion]:
    """Yield what follows for each limit in each scope.

    Args:
        scopes: what clients did.
        span: tells how many seconds of a limit were seen.
        spared: returns whether a client is protected: it is left out.
    """
    for scoped in scopes:
        counted = scoped.good.keys() | {c for w in scoped.watched for c in w.peaks.highest}
        clients = {client for client in counted if not spared(client)}
        good = {c: done for c, done in scoped.good.items() if c in clients}
        for watched in scoped.watched:
            yield _suggestion(watched, clients, good, span(watched))


def pleasant(value: int) -> int:
    """Return the next number, not below a value, that a person would have written."""
    if value < 10:
        return value
    scale = int(10 ** (len(str(value)) - 2))
    return next(number * scale for number in _PLEASANT if number * scale >= value)


def propose(soft: int, hard: int, least: int, highest: int, most: int = MOST) -> tuple[int, int]:
    """Return the soft and hard that follow from the highest that good clients reach.

    Args:
        soft: as it is; 0 = none.
        hard: as it is; 0 = none.
        least: what the first of them is not lowered below.
        highest: what good clients reach within the window.
        most: what the configuration allows.
    """
    if not soft:
        return 0, _first(hard, least, 2 * highest, most)
    proposed = min(most // 2, _first(soft, least, up(5 * highest, 4), most))
    if not hard or proposed == soft:
        return proposed, hard
    return proposed, min(most, max(proposed + 1, pleasant(up(proposed * hard, soft))))


def _first(now: int, least: int, needed: int, most: int) -> int:
    proposed = min(most, pleasant(max(needed, least)))
    return min(now, proposed) if needed <= now else proposed


def _least(now: Meter) -> int:
    """Return what the lower threshold of a limit is not lowered below."""
    shipped = [gauge.read("", 0.0) for gauge in Gauges.of(Policy(), now.scope).all()]
    base = next((m for m in shipped if (m.limit, m.within) == (now.limit, now.within)), now)
    return min(now.soft or now.hard, up(base.soft or base.hard, 2))


def up(number: int, by: int) -> int:
    """Return a quotient, rounded up."""
    return -(-number // by)


def _suggestion(watched: Watched, clients: AbstractSet[str], good: Good, span: float) -> Suggestion:
    gauge = watched.gauge
    peaks = {c: peak for c, peak in watched.peaks.highest.items() if c in clients}
    highest = _highest(peaks, good)
    why_not = too_little(len(good), span, gauge.within, _ENOUGH, "good clients")
    if not why_not and not highest:
        why_not = "no good client did it"
    now = watched.now
    proposed = propose(now.soft, now.hard, _least(now), highest)
    return Suggestion(
        gauge.limit,
        gauge.scope,
        gauge.count,
        gauge.within,
        len(good),
        len(clients) - len(good),
        highest,
        list(_bins(peaks, good, len(clients))),
        _thresholds(now.soft, now.hard, peaks, good),
        None if why_not else _thresholds(*proposed, peaks, good),
        why_not,
    )


def _highest(peaks: dict[str, int], good: Good) -> int:
    """Return what all good clients that count stay within, but for one in a thousand."""
    reached = sorted(
        (
            peak
            for client, (deliveries, logins) in good.items()
            if (peak := peaks.get(client, 0)) <= _OUTWEIGHS * (deliveries + logins)
        ),
        reverse=True,
    )
    return reached[len(reached) // 1000] if reached else 0


def too_little(good: int, span: float, within: float, needed: int, who: str) -> str:
    """Return why nothing follows from so few subjects or seconds; "": it is enough."""
    if good < needed:
        return f"only {good} {who}; at least {needed} are needed"
    enough = max(_DAY, 3 * within)
    if span < enough:
        return f"only {span / 3600:.1f} hours seen; at least {enough / 3600:.0f} are needed"
    return ""


def _thresholds(soft: int, hard: int, peaks: dict[str, int], good: Good) -> Thresholds:
    """Say whom thresholds would hit."""

    def above(threshold: int) -> tuple[int, int]:
        hit = [client for client, peak in peaks.items() if 0 < threshold < peak]
        known = sum(client in good for client in hit)
        return len(hit) - known, known

    strangers_above_soft, good_above_soft = above(soft)
    strangers_above_hard, good_above_hard = above(hard)
    senders = [
        Sender(client, peaks[client], *done)
        for client, done in good.items()
        if peaks.get(client, 0) > (soft or hard)
    ]
    senders.sort(key=lambda sender: (-sender.peak, sender.client))
    return Thresholds(
        soft,
        hard,
        strangers_above_soft,
        strangers_above_hard,
        good_above_soft,
        good_above_hard,
        senders[:_SENDERS],
    )


def _bins(peaks: dict[str, int], good: Good, clients: int) -> Iterator[Bin]:
    """Yield how many clients reached 0, 1, 2, 3 to 4, 5 to 8 and so on."""
    counts: dict[int, list[int]] = {}
    for client, peak in peaks.items():
        counts.setdefault((peak - 1).bit_length(), [0, 0])[client in good] += 1
    reached = sum(known for _, known in counts.values())
    idle = clients - len(peaks)
    yield Bin(0, 0, len(good) - reached, idle - len(good) + reached)
    for size in range(max(counts, default=-1) + 1):
        strangers, known = counts.get(size, (0, 0))
        yield Bin((1 << size >> 1) + 1, 1 << size, known, strangers)
