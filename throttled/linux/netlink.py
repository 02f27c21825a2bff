"""Netlink messages and their attributes, as bytes: packed and parsed. Pure.

Layout: linux/netlink.h. What a message is about is up to its subsystem.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

ERROR, DONE = 0x2, 0x3  # message types
ACK, DUMP = 0x4, 0x300  # flags of a request
NESTED, BIG_ENDIAN = 0x8000, 0x4000  # flags of an attribute's type
_REQUEST, _KIND = 0x1, 0x3FFF

_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

Span = tuple[int, int]
#: Where the value of each attribute begins and ends, by its type.
Attributes = dict[int, Span]


class Message(NamedTuple):
    """One message of an answer; `start` and `end` bound what follows its header in `data`."""

    kind: int
    sequence: int
    port: int  # of the socket that caused it
    data: bytes
    start: int
    end: int


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """Pack a request; `sequence` comes back in an error."""
    return _MESSAGE.pack(16 + len(body), kind, _REQUEST | flags, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Pack an attribute."""
    return ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """Pack an attribute that is a C string."""
    return attribute(kind, value.encode() + b"\0")


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages that one `recv` returned."""
    at, size = 0, len(data)
    while at + 16 <= size:
        length, kind, _flags, sequence, port = _MESSAGE.unpack_from(data, at)
        if length < 16:
            return
        yield Message(kind, sequence, port, data, at + 16, min(at + length, size))
        at += (length + 3) & ~3


def error(answer: Message) -> int:
    """Return the errno of an ERROR or a DONE; 0 is success."""
    data = answer.data[answer.start : answer.start + 4]
    return -int(struct.unpack("=i", data)[0]) if len(data) == 4 else 0


def attributes(data: bytes, start: int, end: int) -> Attributes:
    """Return where the value of each attribute begins and ends."""
    found: Attributes = {}
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        found[kind & _KIND] = (start + 4, start + length)
        start += max(4, (length + 3) & ~3)
    return found


def items(data: bytes, span: Span | None) -> Iterator[Span]:
    """Yield where the value of each attribute of a list begins and ends."""
    start, end = span or (0, 0)
    while start + 4 <= end:
        length = ATTRIBUTE.unpack_from(data, start)[0]
        yield start + 4, start + length
        start += max(4, (length + 3) & ~3)


def number(data: bytes, found: Attributes, kind: int) -> int:
    """Return an attribute that is a number in network byte order; 0 where it is missing."""
    start, end = found.get(kind, (0, 0))
    return int.from_bytes(data[start:end])


def string(data: bytes, found: Attributes, kind: int) -> str:
    """Return an attribute that is a C string; "" where it is missing."""
    start, end = found.get(kind, (0, 0))
    return data[start:end].rstrip(b"\0").decode("latin-1")
