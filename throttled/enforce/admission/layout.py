"""The maps of the programs in throttled/bpf/admission.c: keys, values, settings. Pure.

Names and meanings are those of throttled/bpf/admission.h; a test compares the two.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from throttled import address
from throttled.enforce.admission.protocol import AdmissionLimits

KNOWN_NETWORKS, NETWORKS, DELAYED = 4096, 65_536, 4096
SLOT, HALF, SECOND = 100_000_000, 500_000_000, 1_000_000_000
LATE = 60 * SECOND
CAP, PACE, TURN, REASONS = 0, 1, 2, 3

LIMITS = struct.Struct("@QQqIIII")
STATE = struct.Struct("@IIqQQQ8sIIQ")
DELAY = struct.Struct("@QQ")
SOURCE = struct.Struct("@16s")
NETWORK = struct.Struct("@II16s")
_NETWORK_KEY = struct.Struct("@I16s")  # without `unused`

_MAPPED = bytes(10) + b"\xff\xff"
_NAT64 = b"\0\x64\xff\x9b" + bytes(4)
_V4_BITS, _V6_BITS = 24, 64  # what a network is


class State(NamedTuple):
    """What the programs have counted."""

    open: int
    half: int
    pending: tuple[int, int]
    admitted: int

    @classmethod
    def unpack(cls, value: bytes) -> "State":
        """Read the map's value."""
        _lock, _in, opened, _slot, half, _second, pending, _completed, _lost, admitted = (
            STATE.unpack(value)
        )
        now, before = struct.unpack("@II", pending)
        return cls(opened, half, (now, before), admitted)

    def waiting(self, now: int) -> int:
        """Return the SYNs let through within the last second (or half of one) and not completed."""
        age = now // HALF - self.half
        return sum(self.pending[: max(0, 2 - age)])


def first_state() -> bytes:
    """Return the value that the programs begin with."""
    return bytes(STATE.size)


def pack_limits(limits: AdmissionLimits, base: int, until: int) -> bytes:
    """Return the value of limits.

    Args:
        limits: see there.
        base: what to add to the connections counted by the programs.
        until: ns of the boot clock from which everybody is admitted.
    """
    turn = int(limits.turn * SECOND)
    about = max(0, limits.cap), limits.pace, limits.dropping, limits.most
    return LIMITS.pack(until, turn, base, *about)


def pack_ports(ports: Iterable[int]) -> bytes:
    """Return the value of ports."""
    ours = bytearray(65_536)
    for port in ports:
        ours[port] = 1
    return bytes(ours)


def known(subjects: Iterable[str]) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """Return the keys of addresses and of networks, with their subjects.

    Raises:
        ValueError: one is neither.
    """
    addresses, networks = {}, {}
    for subject in subjects:
        packed, prefix = address.parse(subject)
        if len(packed) == 4:
            packed, prefix = _MAPPED + packed, prefix + 96
        if prefix == 128:
            addresses[SOURCE.pack(packed)] = subject
        else:
            networks[_NETWORK_KEY.pack(prefix, packed)] = subject
    return addresses, networks


def keys_of(packed: bytes) -> tuple[bytes, bytes]:
    """Return the keys under which an address is looked up: itself, and in the trie."""
    mapped = _MAPPED + packed if len(packed) == 4 else packed
    return SOURCE.pack(mapped), _NETWORK_KEY.pack(128, mapped)


def network(key: bytes) -> str:
    """Return the network of a key of `networks` or `delayed`: a /24 or a /64."""
    if key[:4] == bytes(4) and any(key):
        return address.text(key[4:], _V4_BITS)
    return address.text(key + bytes(8), _V6_BITS)


def network_key(packed: bytes) -> bytes:
    """Return the key of an address in `networks`; see `network_of` in admission.c."""
    if len(packed) == 4 or packed[:8] == _NAT64:
        return bytes(4) + packed[-4:-1] + b"\0"
    return packed[:8]


def numbers(values: bytes) -> tuple[int, ...]:
    """Return values of eight bytes that lie one after the other."""
    return struct.unpack(f"@{len(values) // 8}Q", values)


def delays(keys: bytes, values: bytes, since: int) -> list[tuple[str, int]]:
    """Return networks and how many of their packets were dropped, if any was since a time."""
    return [
        (network(keys[n * 8 : n * 8 + 8]), count)
        for n, (count, last) in enumerate(DELAY.iter_unpack(values))
        if last >= since
    ]
