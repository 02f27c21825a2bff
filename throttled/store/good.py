"""Good evidence of one address, folded into a row of fixed size. Pure; owns no state.

Days are UTC days since the epoch. The days with deliveries among the last 30 are exact, a bit
each. Counts fade: each day without mail subtracts a thirtieth, thirty days all, so a sender of n
messages a day has a count of about 30 n, and an old message does not count for ever.
"""

from msgspec import Struct

MEMORY = 30  # days
_DAY = 86400.0
_BITS = (1 << MEMORY) - 1
_MOST = 1 << 40


def day_of(time: float) -> int:
    """Return the UTC day of a wall-clock time."""
    return int(time // _DAY)


class Good(Struct):
    """The row; its fields are the columns of the table."""

    day: int = 0  # latest day with a delivery
    days: int = 0  # bit n: delivered on `day` - n
    deliveries: int = 0
    logins: int = 0
    last_login: float = 0.0

    @property
    def seen(self) -> int:
        """The latest day with a delivery or a login."""
        return max(self.day, day_of(self.last_login))

    def add(self, time: float, deliveries: int, logins: int, now: float) -> None:
        """Fold evidence in; a time later than now, also one in the row, counts as now."""
        time = min(time, now)
        if deliveries > 0:
            self._deliver(day_of(time), deliveries, day_of(now))
        if logins > 0:
            last = min(self.last_login, now)
            gap = day_of(time) - day_of(last)
            self.logins = _sum(self.logins, logins, gap)
            self.last_login = max(last, time)

    def _deliver(self, day: int, count: int, today: int) -> None:
        self.day = min(self.day, today)
        gap = day - self.day
        self.deliveries = _sum(self.deliveries, count, gap)
        if gap >= 0:
            self.days = (self.days << min(gap, MEMORY) | 1) & _BITS
            self.day = day
        else:
            self.days |= (1 << min(-gap, MEMORY)) & _BITS

    def at(self, now: float) -> tuple[int, int, int]:
        """Return (deliveries, distinct days with deliveries, logins) of the last 30 days."""
        today = day_of(now)
        gap = max(0, today - self.day)
        days = (self.days << min(gap, MEMORY)) & _BITS
        silent = max(0, today - day_of(self.last_login))
        return _fade(self.deliveries, gap), days.bit_count(), _fade(self.logins, silent)


def _fade(count: int, days: int) -> int:
    return count - count * min(days, MEMORY) // MEMORY


def _sum(old: int, new: int, gap: int) -> int:
    """Add counts of which `new` is `gap` days younger than `old`."""
    return min(_MOST, _fade(old, gap) + new if gap >= 0 else old + _fade(new, -gap))
