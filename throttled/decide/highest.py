"""Tables that record peaks: the highest value of each client. Pure: no clock, no I/O.

Owns the peaks of at most `cap` clients a table, and of as many again that prove good while it is
full; other clients are then left out, and `full` is set. The daemon moves the peaks into its store,
which empties the table; `suggest` keeps them to the end of its logs.
"""

from collections.abc import Container

from msgspec import Struct, field

from throttled.decide.tables import Counters, Distinct


class Peaks(Struct):
    """The highest value that each client reached."""

    cap: int
    good: Container[str] = frozenset()  # recorded even when it is full
    highest: dict[str, int] = field(default_factory=dict)
    full: bool = False

    def add(self, client: str, value: int) -> None:
        """Record the value that a client has now, if it is its highest."""
        before = self.highest.get(client, 0)
        if value <= before:
            return
        if before or len(self.highest) < self.cap or client in self.good:
            self.highest[client] = value
        else:
            self.full = True

    def add_good(self, client: str, value: int) -> None:
        """Record the value of a client that just proved good, even when it is full."""
        if len(self.highest) < 2 * self.cap:
            self.highest[client] = max(value, self.highest.get(client, 0))

    def written(self, client: str, value: int) -> None:
        """Remove a peak that is in the store, unless it was surpassed since."""
        if self.highest.get(client) == value:
            del self.highest[client]
            self.full = self.full and bool(self.highest)


class PeakCounters(Counters):
    """Counters that record peaks."""

    __slots__ = ("peaks",)

    def __init__(self, within: float, cap: int, peaks: Peaks) -> None:
        super().__init__(within, cap)
        self.peaks = peaks

    def add(self, key: str, at: float, count: int) -> int:
        """Count, record the peak, and return how many there now are within the window."""
        value = super().add(key, at, count)
        self.peaks.add(key, value)
        return value


class PeakDistinct(Distinct):
    """Distinct names that record peaks."""

    __slots__ = ("peaks",)

    def __init__(self, within: float, cap: int, most: int, peaks: Peaks) -> None:
        super().__init__(within, cap, most)
        self.peaks = peaks

    def add(self, key: str, at: float, name: str | int) -> int:
        """Count, record the peak, return the number of distinct names within the window."""
        value = super().add(key, at, name)
        self.peaks.add(key, value)
        return value
