"""Addresses and routes of this network namespace, as the kernel lists them (rtnetlink(7)).

Layouts and numbers: linux/rtnetlink.h, linux/if_addr.h. pyroute2 knows them too, for 0.1 s
at each start and 14 MB of every daemon. Owns no state.
"""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from throttled.linux.netlink import DUMP, Attributes, Message, attributes, message
from throttled.linux.netlink_socket import Netlink

_GET_ADDRESS, _GET_ROUTE = 22, 26
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, length of the prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths, tos, table, …, type, flags
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 5, 9, 18


class Address(NamedTuple):
    """An address of an interface, packed."""

    packed: bytes
    prefix: int


class Route(NamedTuple):
    """A route of any table."""

    prefix: int  # of its destination: 0 for a default route
    hops: tuple[bytes, ...]  # packed; of IPv4 also IPv6 addresses


def addresses() -> Iterator[Address]:
    """Yield the addresses of all interfaces, IPv4 and IPv6.

    Raises:
        OSError: the kernel does not say.
    """
    for answer in _dumped(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)):
        family, prefix, *_ = _ADDRESS.unpack_from(answer.data, answer.start)
        if family in (socket.AF_INET, socket.AF_INET6):
            found = _attributes(answer, _ADDRESS)
            # Of a point-to-point link the first is the other end's.
            yield Address(_value(answer, found, _IFA_LOCAL, _IFA_ADDRESS), prefix)


def routes() -> Iterator[Route]:
    """Yield the routes of all tables, IPv4 and IPv6.

    Raises:
        OSError: the kernel does not say.
    """
    for answer in _dumped(_GET_ROUTE, _ROUTE.pack(*[0] * 9)):
        family, prefix, *_ = _ROUTE.unpack_from(answer.data, answer.start)
        if family in (socket.AF_INET, socket.AF_INET6):
            yield Route(prefix, tuple(_hops(answer, _attributes(answer, _ROUTE))))


def _dumped(kind: int, body: bytes) -> Iterator[Message]:
    with Netlink(socket.NETLINK_ROUTE) as netlink:
        yield from netlink.dump(message(kind, DUMP, body))


def _attributes(answer: Message, header: struct.Struct) -> Attributes:
    return attributes(answer.data, answer.start + header.size, answer.end)


def _hops(answer: Message, found: Attributes) -> Iterator[bytes]:
    """Yield the next hops of a route, of one with several paths too."""
    yield from _gateway(answer, found)
    at, end = found.get(_RTA_MULTIPATH, (0, 0))
    while at + _HOP.size <= end:
        length = max(_HOP.size, _HOP.unpack_from(answer.data, at)[0])
        yield from _gateway(answer, attributes(answer.data, at + _HOP.size, at + length))
        at += (length + 3) & ~3


def _gateway(answer: Message, found: Attributes) -> Iterator[bytes]:
    if gateway := _value(answer, found, _RTA_GATEWAY):
        yield gateway
    if via := _value(answer, found, _RTA_VIA):  # IPv4 by way of IPv6
        yield via[2:]  # behind the family


def _value(answer: Message, found: Attributes, *kinds: int) -> bytes:
    """Return the first of some attributes that is there; b"" where none is."""
    spans = (found[kind] for kind in kinds if kind in found)
    start, end = next(spans, (0, 0))
    return answer.data[start:end]
