"""What the sets of the program hold: put in, asked for, dumped, and rid of what has expired.

A set is a hash in a slot of `sets4` or `sets6`, pinned under its own name, made when its first
element comes. A hash of the kernel takes 16 bytes for each element that it may hold, so a set
begins small, and when it is full it is replaced by one four times as large with the same elements:
the program goes from one to the other between two packets. What has expired the program ignores;
to remove it is up to `collect`.

Pins are opened for each call, because another program may have replaced them. Kept are the
size that sets may have, how far `collect` came, and when a full set was last searched.
"""

import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from throttled.bpf.libbpf import Map
from throttled.enforce import batch
from throttled.enforce.backend import Applied, Fill, FullSet
from throttled.enforce.batch import Failure, Groups
from throttled.enforce.xdp import layout
from throttled.enforce.xdp.layout import ELEMENT, EVERY, Slot
from throttled.errors import BackendError
from throttled.model import Element, Entry

#: What a set may hold at first: 2 MiB. And how much more when it is full.
_FIRST, _MORE = 131_072, 4
#: Seconds after which `collect` stops, and continues there the next time.
_COLLECT = 0.005
#: A full set is searched for what has expired at most once in this many seconds: that may take one.
_SWEEP = 60.0
#: How often an element is tried again when the kernel has to fetch memory first.
_PATIENCE = 100

_VALUES = {4: "sets4", 6: "sets6"}

Items = Mapping[bytes, tuple[Entry, int]]


def clock() -> int:
    """Return the clock by which elements end."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def plan(entries: Iterable[Entry], now: int) -> tuple[Groups[Slot, int], list[Failure]]:
    """Sort entries by their sets, with the boot clock's ns at which each ends (0: remove it)."""
    return batch.plan(entries, layout.place, partial(_expires, now))


def _expires(now: int, entry: Entry, _key: bytes) -> int:
    """Return when an entry ends, in at least a millisecond.

    Raises:
        ValueError: its time is not a number.
        OverflowError: it is longer than the kernel's clock can represent.
    """
    left = int(entry.seconds * 1000)
    if entry.seconds <= 0:
        return 0
    if left >> 42:
        raise OverflowError("longer than the kernel's clock can represent")
    return now + max(1, left) * 1_000_000


class Sets:
    """The sets below a directory of pins."""

    def __init__(self, home: Path) -> None:
        self._home = home
        #: Elements that each set may hold; None as long as no ruleset said so.
        self.size: int | None = None
        #: Elements that are about to come: a set made now has room for them, and need not grow.
        self.expected = 0
        self._cursor: tuple[int, bytes | None] = (0, None)
        self._swept: dict[Slot, float] = {}

    def open(self, of: Slot) -> Map | None:
        """Return a set; None where there is none."""
        try:
            return Map.pinned(self._home / of.name)
        except FileNotFoundError:
            return None

    def apply(self, entries: Iterable[Entry]) -> Applied:
        """Apply a batch; missing sets are created.

        Raises:
            BackendError: a set is needed and `setup` has not said yet how large it may be.
        """
        groups, failed = plan(entries, clock())
        made = {of: self._needed(of, items) for of, items in groups.items()}
        full: frozenset[FullSet] = frozenset()
        for of, items in groups.items():
            if table := made[of]:
                rest = self._put(of, table, items)
                failed += rest.failed
                full |= rest.full
        return Applied(tuple(failed), full)

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that are active."""
        now = clock()
        groups, _unusable = plan(entries, now)
        found: list[Element] = []
        for of, items in groups.items():
            if table := self.open(of):
                for key in items:
                    if value := table.lookup(key):
                        found += _elements_of(of, key, value, now)
        return found

    def dump(self) -> Iterator[Element]:
        """Yield every element that is active. May run in another thread."""
        for of in EVERY:
            if table := self.open(of):
                for keys, values in _pieces(table):
                    yield from _elements_of(of, keys, values, clock())

    def fill(self) -> list[Fill]:
        """Return how many elements each set holds; what has expired counts until it is collected.

        Nothing where the kernel does not say what a map takes for its elements.
        """
        return [
            Fill(of.name, of.scope, of.action, scale.count(table), self.size or table.max_entries)
            for of in EVERY
            if (table := self.open(of)) and (scale := _scale(table.key_size)).element
        ]

    def collect(self) -> None:
        """Remove what has expired: a piece of all that there is, for some milliseconds."""
        end = time.monotonic() + _COLLECT
        at, cursor = self._cursor
        for _ in EVERY:
            table = self.open(EVERY[at])
            cursor = cursor if table else None
            while table:
                keys, values, _count, cursor = table.read(cursor)
                _remove_expired(table, keys, values)
                if cursor is None or time.monotonic() >= end:
                    break
            if cursor is None:
                at = (at + 1) % len(EVERY)
            self._cursor = at, cursor
            if time.monotonic() >= end:
                return

    def settle(self) -> list[Slot]:
        """Tell the program of every set that is pinned, and fit them to the size.

        Returns:
            the sets that hold more than the size allows, and so stay as they are.
        """
        above = []
        for of in EVERY:
            if table := self.open(of):
                if self.size is not None and table.max_entries > self.size:
                    _sweep(table)
                    above += [] if self._replace(of, table, self.size) else [of]
                else:
                    self._slots(of).update(of.number.to_bytes(4, sys.byteorder), _descriptor(table))
        return above

    def carry_over(self, of: Slot, table: Map) -> None:
        """Make a set from one of another layout, whose elements are shorter or longer at the end.

        Bans and throttles continue; where a set is there already it stays.
        """
        if self.open(of) is None and table.key_size == len(layout.key(_WIDEST[of.version])):
            self._replace(of, table, max(table.max_entries, _FIRST))
            if of.networks:
                made = self.open(of)
                self.announce(of.version, map(layout.prefix_of, made.keys() if made else ()))

    def announce(self, version: int, prefixes: Iterable[int]) -> None:
        """Let the program look up networks of these prefix lengths too."""
        lengths = Map.pinned(self._home / "lengths")
        index = (version == 6).to_bytes(4, sys.byteorder)
        known = layout.lengths(lengths.lookup(index) or layout.pack_lengths(()))
        if not known.issuperset(wanted := known.union(prefixes)):
            lengths.update(index, layout.pack_lengths(wanted))

    def _slots(self, of: Slot) -> Map:
        return Map.pinned(self._home / _VALUES[of.version])

    def _needed(self, of: Slot, items: Items) -> Map | None:
        """Return a set, made where something is to be put in; None where nothing is to be done."""
        table = self.open(of)
        wanted = [key for key, (_entry, expires) in items.items() if expires]
        if table is None and wanted:
            if self.size is None:
                raise BackendError(
                    f"there is no set {of.name} yet", "a running throttled creates it when needed"
                )
            table = self._install(of, self._new(of, min(max(_FIRST, self.expected), self.size)))
        if of.networks and wanted:
            self.announce(of.version, map(layout.prefix_of, wanted))
        return table

    def _put(self, of: Slot, table: Map, items: Items) -> Applied:
        """Put items in, what is there already first: a full set still takes it."""
        there, new = [], []
        for key, (entry, expires) in items.items():
            if not expires:
                table.delete(key)
                continue
            own = layout.own_rate(entry)
            if (value := table.lookup(key)) and (old := ELEMENT.unpack(value))[0] > clock():
                packets, due, rate = old[1:4] if own == old[4:] else (old[1], 0, 0)
                there.append((key, ELEMENT.pack(expires, packets, due, rate, *own)))
            else:
                new.append((key, ELEMENT.pack(expires, 0, 0, 0, *own)))
        rest = there + new
        failed: list[Failure] = []
        while rest:
            done, number = _fill(table, *map(b"".join, zip(*rest, strict=True)))
            rest = rest[done:]
            if number == errno.E2BIG:
                larger = self._with_room(of, table)
                if larger is None:
                    why = f"the set {of.name} is full"
                    full = frozenset({FullSet(of.name, of.scope, of.action)})
                    return Applied((*failed, *((items[key][0], why) for key, _ in rest)), full)
                table = larger
            elif number:
                failed.append((items[rest.pop(0)[0]][0], os.strerror(number)))
        return Applied(tuple(failed))

    def _with_room(self, of: Slot, table: Map) -> Map | None:
        """Return a full set without what has expired, or a larger one; None if there is neither."""
        now = time.monotonic()
        if now - self._swept.get(of, -_SWEEP) >= _SWEEP:
            self._swept[of] = now
            _sweep(table)
            return table
        if self.size is None or table.max_entries >= self.size:
            return None
        return self._replace(of, table, min(table.max_entries * _MORE, self.size))

    def _new(self, of: Slot, size: int) -> Map:
        return Map.hash(of.name, len(layout.key(_WIDEST[of.version])), ELEMENT.size, size)

    def _install(self, of: Slot, made: Map) -> Map:
        """Give the program a set, and pin it in place of the one before.

        Killed in between, the pin and the program do not mean the same set: `settle` mends that.
        """
        other = self._home / f"{of.name}_new"
        other.unlink(missing_ok=True)
        made.pin(other)
        other.rename(self._home / of.name)
        self._slots(of).update(of.number.to_bytes(4, sys.byteorder), _descriptor(made))
        return made

    def _replace(self, of: Slot, table: Map, size: int) -> Map | None:
        """Put a set of another size in place of one; None if its elements do not fit in."""
        made = self._new(of, size)
        width = table.value_size
        for keys, values in _pieces(table):
            fitted = values
            if width != ELEMENT.size:
                each = (values[at : at + width] for at in range(0, len(values), width))
                fitted = b"".join(
                    value[: ELEMENT.size].ljust(ELEMENT.size, b"\0") for value in each
                )
            if _fill(made, keys, fitted)[1]:
                return None
        return self._install(of, made)


#: A key of the greatest length.
_WIDEST = {4: (bytes(4), 32), 6: (bytes(16), 128)}


class _Scale(NamedTuple):
    """The bytes that the kernel uses for one of our hashes."""

    hash: int
    bucket: int  # there are as many as the power of two that holds all elements
    element: int  # 0: it says only what it could take

    def count(self, table: Map) -> int:
        """Return how many elements a hash holds."""
        buckets = 1 << (table.max_entries - 1).bit_length()
        return (table.memory() - self.hash - buckets * self.bucket) // self.element


@cache
def _scale(key_size: int) -> _Scale:
    """Weigh an empty hash, one of twice the room, and the first one again with an element in it."""
    one, two = (Map.hash("scale", key_size, ELEMENT.size, room) for room in (1, 2))
    empty, bucket = one.memory(), two.memory() - one.memory()
    one.update(bytes(key_size), bytes(ELEMENT.size))
    return _Scale(empty - bucket, bucket, one.memory() - empty)


def _descriptor(table: Map) -> bytes:
    return table.fd.to_bytes(4, sys.byteorder)


def _fill(table: Map, keys: bytes, values: bytes) -> tuple[int, int]:
    """Put elements in until one is refused; return how many are in, and the errno."""
    count = len(keys) // table.key_size
    at, patience, number = 0, _PATIENCE, 0
    while at < count and patience:
        rest = keys[at * table.key_size :], values[at * table.value_size :]
        done, number = table.update_batch(*rest, count - at)
        at += done
        if number != errno.ENOMEM:
            break
        patience -= not done
    return at, number


def _pieces(table: Map) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a set, some thousand at a time."""
    cursor: bytes | None = None
    while True:
        keys, values, _count, cursor = table.read(cursor)
        yield keys, values
        if cursor is None:
            return


def _elements_of(of: Slot, keys: bytes, values: bytes, now: int) -> Iterator[Element]:
    """Yield those elements of a piece that have not expired."""
    size = len(layout.key(_WIDEST[of.version]))
    for at, (expires, packets, rate) in enumerate(layout.elements(values)):
        if expires > now:
            subject = layout.subject(keys[at * size : (at + 1) * size])
            yield Element(subject, of.scope, of.action, (expires - now) / 1e9, packets, rate)


def _sweep(table: Map) -> None:
    for piece in _pieces(table):
        _remove_expired(table, *piece)


def _remove_expired(table: Map, keys: bytes, values: bytes) -> None:
    now = clock()
    for at, (expires, *_) in enumerate(layout.elements(values)):
        if expires <= now:
            table.delete(keys[at * table.key_size : (at + 1) * table.key_size])
