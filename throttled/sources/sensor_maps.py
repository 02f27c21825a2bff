"""The maps of the program in throttled/bpf/sensor.c: keys and settings. Pure.

Names and meanings are those of throttled/bpf/sensor.h; a test compares the two.
"""

import struct
from collections.abc import Iterable, Mapping

from throttled import address
from throttled.model import SCOPES, Scope

SOURCES = 8192
SOURCE = struct.Struct("@16sQ")
WATCHED = struct.Struct("@Q65536s")


def source(key: bytes) -> tuple[str, Scope]:
    """Return the client and the scope of a key."""
    packed, scope = SOURCE.unpack(key)
    return address.unpack(address.unmapped(packed)), SCOPES[scope]


def watched(netns: int, ports: Mapping[Scope, Iterable[int]]) -> bytes:
    """Return the settings.

    Args:
        netns: cookie of the network namespace.
        ports: local ports that count.
    """
    scope = bytearray(65536)
    for number, name in enumerate(SCOPES):
        for port in ports.get(name, ()):
            scope[port] = 1 + number
    return WATCHED.pack(netns, bytes(scope))
