"""What happened in a period, from the store: for `throttled report` and `replay --html`.

Counts come from the stored hours (`store/hourly.py`), subjects from the stored decisions
(`store/period.py`). Owns no state.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from throttled import subjects
from throttled.address import is_named
from throttled.store.hourly import HOUR, Hourly
from throttled.store.period import GoodSum, NetworkSum, ReportSum, SenderSum, SubjectSum
from throttled.store.store import Store

DAY, WEEK = 86400.0, 604800.0
#: Rows of each table.
ROWS = 10
#: Columns of a chart, at most: of a longer period a column is more than an hour.
_SLOTS = 200
_SLOT_HOURS = (1, 2, 3, 6, 12, 24)

#: What is counted by hour: series, `what` of the store, scope or kind.
_SERIES: dict[str, tuple[str, str, str]] = {
    "sessions": ("session", "", ""),
    "sessions_mx": ("session", "scope", "mx"),
    "sessions_submission": ("session", "scope", "submission"),
    "deliveries": ("delivery", "", ""),
    "logins": ("login", "", ""),
    "throttles": ("decision", "kind", "throttle"),
    "bans": ("decision", "kind", "ban"),
    "unbans": ("decision", "kind", "release"),
    "drops": ("drop", "", ""),
    "overload": ("overload", "", ""),
}


class Count(Struct, frozen=True):
    """How often something happened, and a week before."""

    now: int
    before: int | None  # None: the store does not reach back so far


class LimitSum(Struct, frozen=True):
    """How many decisions a limit led to."""

    limit: str
    throttles: int
    bans: int
    before: int | None  # both, a week before


class Overview(Struct, frozen=True):
    """What happened in a period."""

    host: str
    would: bool  # observed only: nothing was enforced
    since: float
    until: float
    slot: float  # seconds of one value of `series`
    series: dict[str, list[int]]
    totals: dict[str, Count]
    has_overload: bool  # whether overload is recorded at all
    throttled: int  # distinct subjects
    banned: int
    limits: list[LimitSum]
    networks: list[NetworkSum]
    clients: list[SubjectSum]
    good: list[GoodSum]
    good_total: int
    good_banned: int
    accounts: list[SubjectSum]  # accounts and other senders that were throttled or banned
    reported: list[ReportSum]
    senders: list[SenderSum]
    current: dict[str, int]  # the hour that is not over, which nothing above includes


def span(now: float, seconds: float) -> tuple[float, float]:
    """Return begin and end of the latest whole hours, `seconds` long."""
    until = now // HOUR * HOUR
    return until - seconds, until


def overview(
    store: Store, since: float, until: float, *, host: str, would: bool = False
) -> Overview:
    """Return what happened from `since` to before `until`, whole hours.

    Args:
        store: the database.
        since: wall clock.
        until: wall clock; good evidence is that of the 30 days before.
        host: the name of this host.
        would: the decisions were not enforced.

    Raises:
        StoreError: it cannot be read.
    """
    hours = store.hourly.read(since, until)
    period = store.period(since, until)
    whole = period.counted_since() <= since - WEEK
    before = store.hourly.read(since - WEEK, until - WEEK) if whole else None
    current = store.hourly.read(until, until + HOUR)
    subjects = period.subjects()
    slot = _slot(until - since)
    good, good_total, good_banned = period.good(until, ROWS)
    series = {name: _series(hours, name, since, until, slot) for name in _SERIES}
    return Overview(
        host=host,
        would=would,
        since=since,
        until=until,
        slot=slot,
        series=series,
        totals={name: _count(hours, before, name) for name in _SERIES},
        has_overload=any(row.what == "overload" for row in (*hours, *(before or ()))),
        throttled=subjects.get("throttle", 0),
        banned=subjects.get("ban", 0),
        limits=_limits(hours, before),
        networks=period.networks(ROWS),
        clients=period.clients(ROWS),
        good=good,
        good_total=good_total,
        good_banned=good_banned,
        accounts=period.clients(ROWS, named=True),
        reported=period.reported(ROWS),
        senders=period.senders(ROWS),
        current={name: _sum(current, name) for name in _SERIES},
    )


def _slot(seconds: float) -> float:
    """Return how many seconds each column of a chart has."""
    hours = max(1, round(seconds / HOUR))
    fits = (each for each in _SLOT_HOURS if hours / each <= _SLOTS)
    return float(HOUR * next(fits, 24 * -(-hours // (24 * _SLOTS))))


def _of(rows: Iterable[Hourly], name: str) -> Iterable[Hourly]:
    what, field, value = _SERIES[name]
    return (row for row in rows if row.what == what and (not field or getattr(row, field) == value))


def _series(
    rows: Iterable[Hourly], name: str, since: float, until: float, slot: float
) -> list[int]:
    counts = [0] * max(1, int(-(-(until - since) // slot)))
    for row in _of(rows, name):
        counts[int((row.begin - since) // slot)] += row.count
    return counts


def _count(rows: Iterable[Hourly], before: list[Hourly] | None, name: str) -> Count:
    return Count(_sum(rows, name), None if before is None else _sum(before, name))


def _sum(rows: Iterable[Hourly], name: str) -> int:
    return sum(row.count for row in _of(rows, name))


def _limits(rows: Iterable[Hourly], before: list[Hourly] | None) -> list[LimitSum]:
    """Return how often each limit led to a throttle or ban, the most frequent first."""
    now, earlier = _by_limit(rows), _by_limit(before or ())
    names = sorted({limit for limit, _ in (*now, *earlier)})
    found = [
        LimitSum(
            name,
            now[name, "throttle"],
            now[name, "ban"],
            earlier[name, "throttle"] + earlier[name, "ban"] if before is not None else None,
        )
        for name in names
    ]
    return sorted(found, key=lambda row: (-row.throttles - row.bans, row.limit))


def _by_limit(rows: Iterable[Hourly]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.what == "decision" and row.kind in {"throttle", "ban"}:
            counts[row.limit, row.kind] += row.count
    return counts


def headline(of: Overview) -> str:
    """Return the answer in two sentences: what was done, and whether to anybody good."""
    banned, throttled = _clients(of.banned), f"{of.throttled:,}"
    if of.would:
        done = f"{banned} would have been banned, {throttled} throttled."
    else:
        done = f"{banned} banned, {throttled} throttled."
    if not of.banned + of.throttled:
        verb = "would have been" if of.would else "was"
        who = "No client" if of.would or of.accounts else "Nobody"
        return f"{who} {verb} banned or throttled{', but other senders' if of.accounts else ''}."
    if not of.good_total:
        return f"{done} None of them had delivered mail or logged in."
    good = f"{of.good_total:,} of them had delivered mail or logged in"
    return f"{done} {good}; {of.good_banned:,} of these banned."


def _clients(number: int) -> str:
    return f"{number:,} client{'' if number == 1 else 's'}"


def without_names(of: Overview) -> Overview:
    """Return an overview in which accounts and other senders have numbers instead of names."""
    numbers: dict[str, str] = {}

    def numbered(subject: str) -> str:
        kind = subjects.of(subject) if is_named(subject) else None
        return (
            numbers.setdefault(subject.casefold(), f"{kind} {len(numbers) + 1}")
            if kind
            else subject
        )

    return replace(
        of,
        accounts=[replace(row, subject=numbered(row.subject)) for row in of.accounts],
        reported=[replace(row, shown=numbered(row.shown)) for row in of.reported],
        senders=[replace(row, subject=numbered(row.subject)) for row in of.senders],
    )
