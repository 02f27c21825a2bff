"""When the next message of a throttled subject may go, and how many may wait for it. Pure.

Postfix's `sleep` has whole seconds. So a message is given its place in time by the rate and sleeps
until about then: half a second early or late, which the next places make good. `now` is in seconds
on any clock that only grows.
"""

from math import floor

from throttled.model import Rate

#: Seconds by which a subject may be late, as a sleep was too long, and make that good.
_LATE = 1.0


class Allowance:
    """Places in time, at a rate: so many at once, then one each interval."""

    def __init__(self, rate: Rate) -> None:
        """Give no place yet."""
        self._interval = rate.per / rate.count
        self._burst = (rate.burst - 1) * self._interval
        self._place: float | None = None  # the latest given

    def wait(self, now: float) -> float:
        """Return the seconds until the next place, at most 0 where it is due."""
        return self._next(now) - now

    def use(self, now: float) -> None:
        """Give the next place."""
        self._place = self._next(now)

    def _next(self, now: float) -> float:
        if self._place is None:
            return now - self._burst
        return max(self._place + self._interval, now - max(self._burst, _LATE))


class Waiting:
    """Messages that wait, by what they wait for."""

    def __init__(self) -> None:
        """Begin with none."""
        self._ends: dict[str, list[float]] = {}

    def count(self, name: str, now: float) -> int:
        """Return how many of a name wait now."""
        ends = [end for end in self._ends.get(name, ()) if end > now]
        if ends:
            self._ends[name] = ends
        else:
            self._ends.pop(name, None)
        return len(ends)

    def add(self, name: str, end: float) -> None:
        """Note one that waits until `end`; `count` was asked before, so the list is short."""
        self._ends.setdefault(name, []).append(end)


def whole(wait: float) -> int:
    """Return a wait in whole seconds, rounded to the nearest."""
    return max(0, floor(wait + 0.5))
