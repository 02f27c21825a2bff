"""Tables that note the highest value each client reached. Pure: no clock, no I/O.

Owns what is noted: of at most `cap` clients a table, and as many again that prove good while it is
full; of others nothing is noted then, and `full` says so. The daemon takes what is noted into its
store and it is empty again; `suggest` keeps it to the end of its logs.
"""

from collections.abc import Container

from msgspec import Struct, field

from throttled.decide.tables import Counters, Distinct


class Peaks(Struct):
    """The highest value that each client reached."""

    cap: int
    good: Container[str] = frozenset()  # these are noted when it is full, too
    highest: dict[str, int] = field(default_factory=dict)
    full: bool = False

    def note(self, client: str, value: int) -> None:
        """Take note of a value that a client has now."""
        before = self.highest.get(client, 0)
        if value <= before:
            return
        if before or len(self.highest) < self.cap or client in self.good:
            self.highest[client] = value
        else:
            self.full = True

    def insist(self, client: str, value: int) -> None:
        """Take note of a value of a client that just proved good, though it is full."""
        if len(self.highest) < 2 * self.cap:
            self.highest[client] = max(value, self.highest.get(client, 0))

    def written(self, client: str, value: int) -> None:
        """Forget what has been recorded, unless it was surpassed since."""
        if self.highest.get(client) == value:
            del self.highest[client]
            self.full = self.full and bool(self.highest)


class NotingCounters(Counters):
    """Counters that note peaks."""

    __slots__ = ("peaks",)

    def __init__(self, within: float, cap: int, peaks: Peaks) -> None:
        super().__init__(within, cap)
        self.peaks = peaks

    def add(self, key: str, at: float, count: int) -> int:
        """Count, note, and return how many there now are within the window."""
        value = super().add(key, at, count)
        self.peaks.note(key, value)
        return value


class NotingDistinct(Distinct):
    """Distinct names that note peaks."""

    __slots__ = ("peaks",)

    def __init__(self, within: float, cap: int, most: int, peaks: Peaks) -> None:
        super().__init__(within, cap, most)
        self.peaks = peaks

    def add(self, key: str, at: float, name: str) -> int:
        """Count, note, and return how many distinct names there are within the window."""
        value = super().add(key, at, name)
        self.peaks.note(key, value)
        return value
