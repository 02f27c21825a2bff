"""The maps of the program in throttled/bpf/xdp.c: keys, values, and which set is where. Pure.

Names and meanings are those of throttled/bpf/xdp.h; a test compares the two.
"""

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from throttled import address
from throttled.enforce import sets
from throttled.enforce.backend import Ruleset
from throttled.enforce.sets import BITS, stem
from throttled.model import ACTIONS, SCOPES, Action, Entry, Rate, Scope

LAYOUT = 2
SLOTS = 16
LENGTHS = 129
_NETWORKS, _THROTTLE, _EXEMPT, _SCOPE = 1, 2, 4, 8
_ACTIONS = {"ban": 0, "throttle": _THROTTLE, "exempt": _EXEMPT}

#: A value of a set: expires, packets, due, rate; of a rate of its own count, seconds and burst.
ELEMENT = struct.Struct("@QQQQIII4x")
#: No rate of its own.
CONFIGURED = (0, 0, 0)
_SETTINGS = struct.Struct("@QQQ65536s")
_LENGTHS = struct.Struct(f"@I{LENGTHS}s3x")
#: No bucket is deeper than this, 146 years, so that times fit into 64 bits.
_DEEPEST = 1 << 62


class Slot(NamedTuple):
    """The place of a set in the program's map of sets. Its `name` is that of the set's pin."""

    scope: Scope
    action: Action
    version: int  # 4 or 6
    networks: bool

    @property
    def name(self) -> str:
        """Return the name: `mx_ban4`, `submission_throttle6_networks`."""
        return stem(self.scope, self.action, self.version) + "_networks" * self.networks

    @property
    def number(self) -> int:
        """Return its place in `sets4` or `sets6`."""
        return SCOPES.index(self.scope) * _SCOPE + _ACTIONS[self.action] + self.networks * _NETWORKS


#: The slots of all sets that there can be: networks of any length are in one.
EVERY = tuple(
    Slot(scope, action, version, networks)
    for version in (4, 6)
    for scope in SCOPES
    for action in ACTIONS
    for networks in (False, True)
    if not (action == "exempt" and networks)
)


def key(network: tuple[bytes, int]) -> bytes:
    """Return the key of a parsed address or network (see `address.parse`)."""
    packed, prefix = network
    return prefix.to_bytes(4, sys.byteorder) + packed


def subject(of_key: bytes) -> str:
    """Return the subject of a key."""
    return address.text(of_key[4:], prefix_of(of_key))


def prefix_of(of_key: bytes) -> int:
    """Return the prefix length of a key."""
    return int.from_bytes(of_key[:4], sys.byteorder)


def place(entry: Entry) -> tuple[Slot, bytes]:
    """Return the slot and the key of an entry's subject.

    Raises:
        ValueError: see `entries.parse`.
    """
    of, packed = sets.place(entry)
    slot = Slot(of.scope, of.action, of.version, of.prefix < BITS[of.version])
    return slot, key((packed, of.prefix))


def own_rate(entry: Entry) -> tuple[int, int, int]:
    """Return the last part of a value: the rate of its own that a throttle has."""
    rate = entry.rate if entry.action == "throttle" else None
    return CONFIGURED if rate is None else (rate.count, int(rate.per), rate.burst)


def elements(values: bytes) -> Iterator[tuple[int, int, Rate | None]]:
    """Yield (expires, packets, rate of its own) of values that lie one after the other."""
    for expires, packets, _due, _rate, count, seconds, burst in ELEMENT.iter_unpack(values):
        yield expires, packets, Rate(count, float(seconds), burst) if count else None


class Settings(NamedTuple):
    """The rate of throttles, and the ports."""

    rate: int
    interval: int  # ns
    tolerance: int  # ns
    scope: bytes

    @classmethod
    def of(cls, ruleset: Ruleset, before: "Settings") -> "Settings":
        """Return those of a ruleset; what counts as another rate has another number."""
        interval = int(ruleset.per * 1e9 / ruleset.rate)
        tolerance = min(interval * (ruleset.burst - 1), _DEEPEST)
        scope = bytearray(65536)
        for number, name in enumerate(SCOPES):
            for port in ruleset.ports.get(name, ()):
                scope[port] = 1 + number
        other = (interval, tolerance) != (before.interval, before.tolerance)
        return cls(before.rate + other, interval, tolerance, bytes(scope))

    @classmethod
    def unpack(cls, value: bytes) -> "Settings":
        """Read the map's value."""
        return cls(*_SETTINGS.unpack(value))

    def pack(self) -> bytes:
        """Return the map's value."""
        return _SETTINGS.pack(*self)


def lengths(value: bytes) -> frozenset[int]:
    """Return the prefix lengths that a value of `lengths` names."""
    count, listed = _LENGTHS.unpack(value)
    return frozenset(listed[:count])


def pack_lengths(prefixes: Iterable[int]) -> bytes:
    """Return a value of `lengths`: narrow networks first."""
    listed = bytes(sorted(prefixes, reverse=True))
    return _LENGTHS.pack(len(listed), listed)


def tries(subjects: Iterable[str]) -> Mapping[int, frozenset[bytes]]:
    """Return the keys of subjects in the trie of each version.

    Raises:
        ValueError: a subject is neither an address nor a network.
    """
    found: dict[int, set[bytes]] = {4: set(), 6: set()}
    for each in map(address.parse, subjects):
        found[4 if len(each[0]) == 4 else 6].add(key(each))
    return {version: frozenset(keys) for version, keys in found.items()}
