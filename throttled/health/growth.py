"""Counters that should not grow, such as lost lines: an increase is reported for a while.

Owns the counts, and when each grew last.
"""

from math import inf

from msgspec import Struct

#: Seconds after it happened last for which it counts as recent.
LATELY = 600.0


class Growth(Struct):
    """A count that should not grow, and when it did last."""

    value: int = 0
    at: float = -inf  # boot clock

    def lately(self, value: int, at: float) -> bool:
        """Take the count; return whether it grew lately."""
        if value > self.value:
            self.at = at
        self.value = value
        return at - self.at < LATELY


class Growths:
    """Such counts by the key of their problem."""

    def __init__(self) -> None:
        self._counts: dict[str, Growth] = {}

    def lately(self, key: str, value: int, at: float) -> bool:
        """Take a count; return whether it grew lately."""
        return self._counts.setdefault(key, Growth()).lately(value, at)
