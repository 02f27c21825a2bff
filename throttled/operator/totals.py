"""What happened by hour and by day, for `status` and `top`. Owns no state."""

import time
from collections.abc import Iterable

from msgspec.structs import replace

from throttled.control.results import Totals
from throttled.operator.desk import Desk

_HOUR = 3600.0
#: Hours that `top` draws.
HOURS = 48
#: Fields by what is counted, and its kind: see `throttled.store.hourly`.
_FIELDS = {
    ("session", ""): "sessions",
    ("delivery", ""): "deliveries",
    ("login", ""): "logins",
    ("decision", "throttle"): "throttles",
    ("decision", "ban"): "bans",
    ("drop", ""): "drops",
}


def days(desk: Desk) -> list[Totals]:
    """Return the totals of yesterday and today; hours that began on a day belong to it.

    Raises:
        StoreError: the store cannot be read.
    """
    today = time.localtime(desk.clock().wall)
    begins = [time.mktime((*today[:2], today.tm_mday - ago, 0, 0, 0, 0, 0, -1)) for ago in (1, 0)]
    return _summed(begins, desk)


def hours(desk: Desk) -> list[Totals]:
    """Return the totals of the latest hours, this one included.

    Raises:
        StoreError: the store cannot be read.
    """
    this = desk.clock().wall // _HOUR * _HOUR
    return _summed([this - n * _HOUR for n in reversed(range(HOURS))], desk)


def _summed(begins: Iterable[float], desk: Desk) -> list[Totals]:
    """Return the totals of spans, each of which ends where the next one begins."""
    spans = [Totals(begin) for begin in begins]
    at = 0
    for begin, what, kind, count in desk.store.hourly.totals(spans[0].begin):
        field = _FIELDS.get((what, kind))
        if field is None or begin < spans[0].begin:
            continue
        while at + 1 < len(spans) and begin >= spans[at + 1].begin:
            at += 1
        spans[at] = replace(spans[at], **{field: getattr(spans[at], field) + count})
    return spans
