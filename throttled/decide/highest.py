"""Peaks: the highest value that each client reached in a limit. Pure: no clock, no I/O.

Owns those of at most `cap` clients a limit, and of as many again that prove good while it is
full; other clients are then left out, and `full` is set. The daemon moves the peaks into its store,
which empties the table; `suggest` keeps them to the end of its logs.
"""

from collections.abc import Container

from msgspec import Struct, field


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
