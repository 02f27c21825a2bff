"""Where the lines stand that counted against each client, in fixed memory. Pure.

The log keeps the text; this keeps offsets: a ring of places, each linked to the same client's
place before it, so that the latest lines of a client are a walk back through the ring. 24 bytes a
counted line and one table entry a client; what the ring has overwritten is gone.
"""

from array import array
from collections import deque

from throttled.decide.tables import Generations
from throttled.model import Line

#: Lines whose clients `latest` returns.
_LATEST = 200


class Trace:
    """The latest `size` lines that counted. Owns the ring; entries are evicted after a day."""

    def __init__(self, size: int, cap: int) -> None:
        self._size = size
        self._sources = array("q")
        self._offsets = array("q")
        self._before = array("q")
        self._next = 0  # running number of the next place
        self._clients: deque[str] = deque(maxlen=_LATEST)
        self._last: Generations[str, int] = Generations(86400.0, cap)

    def add(self, client: str, at: float, source: int, offset: int) -> None:
        """Remember that the line at `offset` of `source` counted against the client."""
        number = self._next
        self._next = number + 1
        self._clients.append(client)
        before = self._last.put(client, number, at)
        if before is None:
            before = -1
        if number < self._size:
            self._sources.append(source)
            self._offsets.append(offset)
            self._before.append(before)
        else:
            slot = number % self._size
            self._sources[slot] = source
            self._offsets[slot] = offset
            self._before[slot] = before

    def record(self, client: str) -> None:
        """Remember that something counted against the client that no line tells."""
        self._clients.append(client)

    def lines(self, client: str, most: int) -> tuple[Line, ...]:
        """Return up to `most` of the client's latest lines, oldest first."""
        found: list[Line] = []
        number = self._last.get(client)
        oldest = max(0, self._next - self._size)
        while number is not None and number >= oldest and len(found) < most:
            slot = number % self._size
            found.append(Line(self._sources[slot], self._offsets[slot]))
            number = self._before[slot]
        return tuple(reversed(found))

    def latest(self) -> list[str]:
        """Return the clients of the latest lines, each once, the latest first."""
        return list(dict.fromkeys(reversed(self._clients)))

    def reset(self, client: str) -> None:
        """Forget the client's lines."""
        self._last.pop(client)

    def clear(self) -> None:
        """Evict all lines and clients."""
        self._last.clear()
        self._clients.clear()
