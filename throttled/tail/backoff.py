"""When to try again what failed. Pure: times are arguments, in seconds of one monotonic clock."""


class Backoff:
    """Waits `first` seconds after the first failure, twice as long after each further one.

    Args:
        first: seconds.
        most: the longest wait, seconds.
    """

    def __init__(self, first: float = 1.0, most: float = 30.0) -> None:
        self._first = self._wait = first
        self._most = most
        self._next = 0.0
        self.since = 0.0  # of the first failure of those in a row
        self.error = ""  # the latest failure; "": it works

    def due(self, at: float) -> bool:
        """Return whether to try now."""
        return not self.error or at >= self._next

    def failed(self, at: float, error: str) -> None:
        """Record a failure."""
        if not self.error:
            self.since, self._wait = at, self._first
        self.error = error
        self._next = at + self._wait
        self._wait = min(2 * self._wait, self._most)

    def succeeded(self) -> None:
        """Record that it works."""
        self.error = ""
