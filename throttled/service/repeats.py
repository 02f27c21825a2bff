"""Rate of log lines that could repeat many times a second. No clock of its own.

Limits: `_KEYS` different ones; at more of them all are evicted, and written once more.
Owns when each line was written last.
"""

#: Seconds between two lines about the same.
QUIET = 60.0
_KEYS = 100


class Repeats:
    """Counts what happens again and again."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # when it was written, times since then

    def due(self, key: str, at: float) -> int:
        """Count it; return how often it happened since it was written last, 0 not to write it.

        Args:
            key: what is the same.
            at: now, on a clock that is not set.
        """
        if len(self._seen) >= _KEYS and key not in self._seen:
            self._seen.clear()
        written, times = self._seen.get(key, (at - QUIET, 0))
        if at - written < QUIET:
            self._seen[key] = written, times + 1
            return 0
        self._seen[key] = at, 0
        return times + 1
