"""Tables of counters with a cap, that forget by themselves. Pure.

A table has two generations, `young` and `old`. What is touched goes to the young one; after one
window, or when the young one is full, the old one is dropped whole and the young one becomes old.
So an entry lives for at least one window after it was last touched (unless the cap is reached), an
idle table empties itself, and forgetting costs nothing per entry: no sweep, no list of expiries.

At the cap (half of it a generation) the clients that were silent the longest go, whoever they are.
What must not be pushed out by a spray of addresses, good evidence and offences, is in the store.
The tables own their entries; nobody else holds them.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from math import nan
from struct import pack, unpack
from typing import Generic, TypeVar

from throttled.decide import meter

_add, advance, total = meter.add, meter.advance, meter.total

#: How a name is packed, in bytes: when it was used, then 24 bits of its hash.
_NAME, _TICK, _HASH, _DIGEST = 8, 5, 3, 0xFFFFFF
_FIRST = slice(_TICK)  # when the first name was used

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Generations(Generic[Key, Value]):
    """A mapping of at most `cap` entries, each evicted when untouched for `lifetime` seconds."""

    __slots__ = ("_due", "_half", "_lifetime", "_old", "_young", "dropped")

    def __init__(self, lifetime: float, cap: int) -> None:
        self._lifetime = lifetime
        self._half = max(1, cap // 2)
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._due = lifetime  # when the young generation becomes the old one
        #: Entries dropped before their time, because of the cap.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._young) + sum(1 for key in self._old if key not in self._young)

    def size(self) -> int:
        """Return an upper bound of `len()` in O(1)."""
        return len(self._young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """Return the entry without touching it."""
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def values(self) -> Iterator[Value]:
        """Yield every entry's value."""
        yield from self._young.values()
        yield from (value for key, value in self._old.items() if key not in self._young)

    def items(self) -> Iterator[tuple[Key, Value]]:
        """Yield every entry."""
        yield from self._young.items()
        yield from (item for item in self._old.items() if item[0] not in self._young)

    def put(self, key: Key, value: Value, at: float) -> Value | None:
        """Set the entry and touch it; return what it was."""
        if at >= self._due:
            self._rotate(at)
        before = self._young.get(key)
        if before is None:
            before = self._make_room(key, at)
        self._young[key] = value
        return before

    def pop(self, key: Key) -> Value | None:
        """Remove the entry and return it."""
        old = self._old.pop(key, None)
        return self._young.pop(key, old)

    def clear(self) -> None:
        """Remove every entry."""
        self._young = {}
        self._old = {}

    def resize(self, cap: int) -> None:
        """Set another cap; above it the first entries of each generation are evicted."""
        self._half = max(1, cap // 2)
        self._young, self._old = (
            dict(islice(each.items(), max(0, len(each) - self._half), None))
            for each in (self._young, self._old)
        )

    def _rotate(self, at: float) -> None:
        """Begin a generation. Due at any touch, or the counts of a busy client age unseen."""
        if at >= self._due + self._lifetime:  # untouched for so long that the young are too old
            self._young = {}
        self._old = self._young
        self._young = {}
        self._due = at + self._lifetime

    def _make_room(self, key: Key, at: float) -> Value | None:
        """Make room for a key that the young generation has not; return its entry of the old."""
        before = self._old.get(key)
        if len(self._young) >= self._half:
            self.dropped += len(self._old)
            self._old = self._young
            self._young = {}
            self._due = at + self._lifetime
        return before


class Windowed(Generations[str, Value]):
    """What each client did within one window, in eighths.

    What follows from the time of an event is worked out when that is another than that of the event
    before: of the lines of a flood many have the same.
    """

    __slots__ = ("_at", "_per_second", "_tick")

    def __init__(self, within: float, cap: int) -> None:
        # Nine eighths, so that an entry outlives everything it counts.
        super().__init__(within * 9 / 8, cap)
        self._per_second = meter.EIGHTHS / within
        self._at = nan  # of the latest event counted …
        self._tick = 0  # … and its eighth

    def _move(self, at: float) -> None:
        """Count at another time from now on; not necessarily a later one."""
        if at >= self._due:
            self._rotate(at)
        self._at = at
        tick = int(at * self._per_second)
        if tick != self._tick:
            self._begin(tick)

    def _begin(self, tick: int) -> None:
        """Count in another eighth from now on."""
        self._tick = tick


class Counters(Windowed[int]):
    """Meters (see `throttled.decide.meter`) of one window, by client."""

    __slots__ = ()

    def add(self, key: str, at: float, count: int) -> int:
        """Count, and return how many there now are within the window."""
        if at != self._at:
            self._move(at)
        value = self._young.get(key)
        if value is None:
            value = self._make_room(key, at) or 0
        self._young[key], total = _add(value, self._tick, count)
        return total

    def subtract(self, key: str, at: float, count: int) -> None:
        """Count less what was counted at `at`; never below zero."""
        for generation in (self._young, self._old):
            if key in generation:
                tick = int(at * self._per_second)
                generation[key] = meter.subtract(generation[key], tick, count)

    def value(self, key: str, at: float) -> int:
        """Return how many there are within the window that ends at `at`."""
        value = self.get(key)
        return 0 if value is None else total(advance(value, int(at * self._per_second)))

    def eighths(self, key: str, at: float) -> int:
        """Return in how many eighths of that window something was counted."""
        return meter.eighths(advance(self.get(key) or 0, int(at * self._per_second)))


class Distinct(Windowed[bytes]):
    """How many distinct names each client used within a window.

    A name is kept as 24 bits of its hash and the eighth in which it was last used, the oldest
    first, packed: as numbers of their own they would take five times as much. Of each client the
    `most` latest names are kept, so that a count is right up to `most`, whatever came before.
    """

    __slots__ = ("_late", "_newest", "_now", "_oldest", "more", "most")

    def __init__(self, within: float, cap: int, most: int) -> None:
        super().__init__(within, cap)
        self._newest = 0  # the latest eighth so far
        self._begin(0)
        self.most = most
        #: How many names of a client are kept beyond `most`, at a time; None: no more.
        self.more: Callable[[str, float], int] | None = None

    def add(self, key: str, at: float, name: str | int) -> int:
        """Count a name, and return how many distinct ones there are within the window.

        Args:
            key: the client.
            at: when.
            name: see `digest`.
        """
        return self.add_all(key, at, (digest(name),))[-1]

    def add_all(self, key: str, at: float, digests: Sequence[bytes]) -> list[int]:
        """Count names, and return how many distinct ones there are after each of them.

        Args:
            key: the client.
            at: when.
            digests: of the names, see `digest`.
        """
        if at != self._at:
            self._move(at)
        names = self._young.get(key)
        if names is None:
            names = self._make_room(key, at) or b""
        if names[_FIRST] < self._oldest:
            names = names[_expired(names, 0, self._oldest) :]
        now, late, most = self._now, self._late, _NAME * self.most
        counts = []
        for each in digests:
            place = names.find(each)
            if place < 0 and not late:
                names += now + each
            elif place % _NAME != _TICK or names[place - _TICK : place] != now:
                names = _used(names, now + each)
            if len(names) > most:
                names = self._latest(names, key, at)
            counts.append(len(names) // _NAME)
        self._young[key] = names
        return counts

    def _latest(self, names: bytes, key: str, at: float) -> bytes:
        """Return those names of a client that are kept, of more than `most`."""
        more = 0 if self.more is None else self.more(key, at)
        return names[max(0, len(names) - (self.most + more) * _NAME) :]

    def _begin(self, tick: int) -> None:
        super()._begin(tick)
        self._late = tick < self._newest
        self._newest = max(tick, self._newest)
        # As they are packed: this eighth, and the oldest of the window that ends with it.
        self._now = tick.to_bytes(_TICK)
        self._oldest = max(0, tick - meter.EIGHTHS).to_bytes(_TICK)

    def remove(self, key: str, name: str | int) -> None:
        """Count a name or its tag no more."""
        removed = hash(name) & _DIGEST
        for generation in (self._young, self._old):
            if key in generation:
                others = [n for n in _numbers(generation[key]) if n & _DIGEST != removed]
                generation[key] = pack(f">{len(others)}Q", *others)

    def value(self, key: str, at: float) -> int:
        """Return how many distinct names there are within the window that ends at `at`."""
        names = self.get(key) or b""
        oldest = max(0, int(at * self._per_second) - meter.EIGHTHS).to_bytes(_TICK)
        return (len(names) - _expired(names, 0, oldest)) // _NAME


def digest(name: str | int) -> bytes:
    """Return what `Distinct` knows of a name, or of its tag: see `throttled.decide.tried`."""
    return (hash(name) & _DIGEST).to_bytes(_HASH)  # the hash of a tag is the tag itself


def _expired(names: bytes, start: int, oldest: bytes) -> int:
    """Return where the names from a place on begin that were used since an eighth."""
    while start < len(names) and names[start : start + _TICK] < oldest:
        start += _NAME
    return start


def _numbers(names: bytes) -> tuple[int, ...]:
    return unpack(f">{len(names) // _NAME}Q", names)


def _used(names: bytes, latest: bytes) -> bytes:
    """Return names with one that was used again, or whose line comes late: the oldest first."""
    (use,) = _numbers(latest)
    known = _numbers(names)
    others = [number for number in known if (number ^ use) & _DIGEST]
    uses = [number for number in known if not (number ^ use) & _DIGEST]
    return pack(f">{len(others) + 1}Q", *sorted([*others, max(use, *uses, 0)]))
