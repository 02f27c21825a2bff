"""How long something took, counted by upper bounds: the form in which Prometheus takes it.

Whoever measures owns the histogram. The bounds are fixed: figures of several hosts add up.
"""

from bisect import bisect_left

from msgspec import Struct, field

#: Upper bounds in seconds; what took longer is counted behind the last.
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class Histogram(Struct):
    """Counts of durations."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0  # seconds

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration.

        Args:
            seconds: how long it took.
            times: for so many at once.
        """
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.total += seconds * times

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (upper bound, how many took at most so long); the last bound is infinity."""
        so_far = 0
        rows = []
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            so_far += count
            rows.append((bound, so_far))
        return rows
