"""Where the lines stand that counted against each client, in fixed memory. Pure.

The log keeps the text; this keeps offsets: a ring of 64-bit places, each linked to the same
client's place before it, so that the latest lines of a client are a walk back through the ring.
16 bytes a counted line and one table entry a client; what the ring has overwritten is gone.
"""

from array import array
from collections import deque

from throttled.decide.tables import Generations
from throttled.model import Line

#: An offset has 52 bits (of a file 4 PiB; of the journal microseconds until 2112), a source, the
#: 12 above: of more than 4,095 files since the database was made, old ones are mistaken.
_SOURCE = 52
_SOURCES = (1 << 12) - 1
#: Lines whose clients `latest` returns.
_LATEST = 200


class Trace:
    """The latest `size` lines that counted. Owns the ring; entries are forgotten after a day."""

    def __init__(self, size: int, cap: int) -> None:
        self._size = size
        self._places = array("Q")
        self._before = array("q")
        self._next = 0  # running number of the next place
        self._clients: deque[str] = deque(maxlen=_LATEST)
        self._last: Generations[str, int] = Generations(86400.0, cap)

    def add(self, client: str, at: float, source: int, offset: int) -> None:
        """Remember that the line at `offset` of `source` counted against the client."""
        number = self._next
        self._next = number + 1
        self._clients.append(client)
        place = (source & _SOURCES) << _SOURCE | offset
        before = self._last.swap(client, number, at)
        if before is None:
            before = -1
        if number < self._size:
            self._places.append(place)
            self._before.append(before)
        else:
            slot = number % self._size
            self._places[slot] = place
            self._before[slot] = before

    def note(self, client: str) -> None:
        """Remember that something counted against the client that no line tells."""
        self._clients.append(client)

    def lines(self, client: str, most: int) -> tuple[Line, ...]:
        """Return up to `most` of the client's latest lines, oldest first."""
        found: list[Line] = []
        number = self._last.get(client)
        while number is not None and number >= max(0, self._next - self._size):
            place = self._places[number % self._size]
            found.append(Line(place >> _SOURCE, place & (1 << _SOURCE) - 1))
            if len(found) == most:
                break
            number = self._before[number % self._size]
        return tuple(reversed(found))

    def latest(self) -> list[str]:
        """Return the clients of the latest lines, each once, the latest first."""
        return list(dict.fromkeys(reversed(self._clients)))

    def forget(self, client: str) -> None:
        """Forget the client's lines."""
        self._last.pop(client)

    def clear(self) -> None:
        """Forget all lines."""
        self._last.clear()
