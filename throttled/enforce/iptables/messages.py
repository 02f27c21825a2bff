"""nfnetlink messages of ip_set: packed and parsed. Pure.

Layout: linux/netlink.h and linux/netfilter/ipset/ip_set.h. Elements are packed here because that
is what one ban and ten thousand of them cost: pyroute2's IPSet adds 1,800 a second, `ipset restore`
36,000. A message that adds or deletes many takes effect one element after the other; the kernel
stops at the first that it refuses, and its error says which that was.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from throttled.enforce.nftables.messages import Message

# NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_*
_CREATE, _DESTROY, _SWAP, _LIST, _ADD, _DELETE, _TEST = (
    0x0602, 0x0603, 0x0606, 0x0607, 0x0609, 0x060A, 0x060B,
)  # fmt: skip
_PROTOCOL = 6  # of Linux 2.6.39; later kernels speak it too

# Errors beyond errno: IPSET_ERR_*
PRIVATE, BUSY, EXISTS, FULL = 4096, 4101, 4103, 4352
_REASONS = {
    4099: "the kernel does not know this type of set",
    4100: "there are too many sets",
    BUSY: "the set is in use",
    4102: "there is a set of this name",
    4103: "no such element",
    4104: "not a prefix length",
    FULL: "the set is full",
    4353: "the kernel takes no such element",
}

_REQUEST, _ACK, _DUMP, _ONLY_NEW = 0x1, 0x4, 0x300, 0x200
_NESTED, _BIG_ENDIAN, _KIND = 0x8000, 0x4000, 0x3FFF
_COUNTERS = 1 << 3  # IPSET_FLAG_WITH_COUNTERS
_HEADERS = 1 << 2  # IPSET_FLAG_LIST_HEADER
_FAMILIES = {4: 2, 6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6
#: The revision of each type that brought counters, both in Linux 3.10.
_REVISIONS = {"hash:ip": 1, "hash:net": 4}

_MESSAGE = struct.Struct("=IHHIIBBH")  # nlmsghdr; nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

#: Elements of one message: the error repeats it, and has to fit into one read.
TOGETHER = 400
#: The longest that an element can last, 24 days and 20 hours: IPSET_MAX_TIMEOUT.
LONGEST = (0xFFFFFFFF >> 1) // 1000

Span = tuple[int, int]


class Definition(NamedTuple):
    """What a set is, in the kernel's words. `timeout` 0: elements stay."""

    kind: str  # hash:ip or hash:net
    version: int  # 4 or 6
    size: int
    timeout: int  # seconds, of elements that come without


class Header(NamedTuple):
    """A set as the kernel describes it."""

    name: str
    definition: Definition
    elements: int
    references: int  # by rules


class Held(NamedTuple):
    """An element that a set holds."""

    key: bytes
    prefix: int
    seconds: int  # time left
    packets: int


def reason(number: int) -> str:
    """Return what an error beyond errno means; empty for an errno."""
    return _REASONS.get(number, f"ip_set error {number}" if number >= PRIVATE else "")


# Packing


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, sequence: int, *attributes: bytes) -> bytes:
    body = b"".join((_attribute(1, bytes((_PROTOCOL,))), *attributes))
    return _MESSAGE.pack(20 + len(body), kind, _REQUEST | flags, sequence, 0, 0, 0, 0) + body


def _name(name: str, kind: int = 2) -> bytes:
    return _attribute(kind, name.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind | _BIG_ENDIAN, value.to_bytes(4))


def element(key: bytes, prefix: int, seconds: int, line: int) -> bytes:
    """Pack an element; what deletes or tests one needs no time.

    Args:
        key: 4 or 16 bytes.
        prefix: of a network, at least 1; 0 for an address.
        seconds: time left, at most `LONGEST`; 0 leaves it out.
        line: comes back if the kernel refuses this one.
    """
    address = _attribute((1 if len(key) == 4 else 2) | _BIG_ENDIAN, key)
    return _attribute(
        7 | _NESTED,  # IPSET_ATTR_DATA
        _attribute(1 | _NESTED, address)
        + (_attribute(3, bytes((prefix,))) if prefix else b"")
        + (_number(6, seconds) if seconds else b"")
        + _attribute(9, struct.pack("=I", line)),
    )


def add(name: str, packed: Sequence[bytes], sequence: int) -> bytes:
    """Pack a message that adds elements, at most `TOGETHER`, or renews those that are there."""
    return _elements(_ADD, name, packed, sequence)


def delete(name: str, packed: Sequence[bytes], sequence: int) -> bytes:
    """Pack a message that deletes elements, at most `TOGETHER`, there or not."""
    return _elements(_DELETE, name, packed, sequence)


def _elements(kind: int, name: str, packed: Sequence[bytes], sequence: int) -> bytes:
    line = _attribute(9, bytes(4))  # before the elements, to be found in an error cut short
    return _message(
        kind, _ACK, sequence, _name(name), line, _attribute(8 | _NESTED, b"".join(packed))
    )


def test(name: str, packed: bytes, sequence: int) -> bytes:
    """Pack a question whether a set holds an element; `EXISTS` says that it does not."""
    return _message(_TEST, _ACK, sequence, _name(name), packed)


def create(name: str, definition: Definition) -> bytes:
    """Pack a message that makes a set, which must not be there. Its elements are counted."""
    data = (
        _number(19, definition.size),  # IPSET_ATTR_MAXELEM
        _number(8, _COUNTERS),  # IPSET_ATTR_CADT_FLAGS
        _number(6, definition.timeout) if definition.timeout else b"",
    )
    return _message(
        _CREATE,
        _ACK | _ONLY_NEW,
        0,
        _name(name),
        _name(definition.kind, 3),
        _attribute(4, bytes((_REVISIONS[definition.kind],))),
        _attribute(5, bytes((_FAMILIES[definition.version],))),
        _attribute(7 | _NESTED, b"".join(data)),
    )


def destroy(name: str) -> bytes:
    """Pack a message that destroys a set."""
    return _message(_DESTROY, _ACK, 0, _name(name))


def swap(name: str, other: str) -> bytes:
    """Pack a message that swaps what two sets of one type hold; rules stay with the names."""
    return _message(_SWAP, _ACK, 0, _name(name), _name(other, 3))


def headers() -> bytes:
    """Pack a question for all sets, without elements. The kernel walks them, to count."""
    return _message(_LIST, _DUMP, 0, _number(6, _HEADERS))


def header(name: str) -> bytes:
    """Pack a question for one set, without elements."""
    return _message(_LIST, _DUMP, 0, _name(name), _number(6, _HEADERS))


def dump(name: str) -> bytes:
    """Pack a question for all elements of a set."""
    return _message(_LIST, _DUMP, 0, _name(name))


# Parsing


def line_of(message: Message) -> int:
    """Return the line of the element that an error is about."""
    data = message.data
    start = message.start + 4 + 20  # the errno; the header of the message that is repeated
    found = _attributes(data, start, message.end)
    at, end = found.get(9, (0, 0))
    return int(struct.unpack("=I", data[at:end])[0]) if end - at == 4 else -1


def header_of(message: Message) -> Header | None:
    """Return a set from an answer to `headers`; None where it is of a kind that is not ours."""
    data = message.data
    found = _attributes(data, message.start + 4, message.end)
    if not {2, 3, 5, 7} <= found.keys():
        return None
    inner = _attributes(data, *found[7])
    kind, family = _text(data, found[3]), data[found[5][0]]
    version = {number: version for version, number in _FAMILIES.items()}.get(family, 0)
    definition = Definition(kind, version, _value(data, inner, 19), _value(data, inner, 6))
    elements, references = _value(data, inner, 24), _value(data, inner, 25)
    return Header(_text(data, found[2]), definition, elements, references)


def elements(message: Message) -> Iterator[Span]:
    """Yield where each element of an answer to `dump` begins and ends."""
    data = message.data
    body = _attributes(data, message.start + 4, message.end)
    start, end = body.get(8, (0, 0))  # IPSET_ATTR_ADT
    while start + 4 <= end:
        length = _ATTRIBUTE.unpack_from(data, start)[0]
        yield start + 4, start + length
        start += max(4, (length + 3) & ~3)


def key_of(data: bytes, at: int, size: int) -> bytes:
    """Return the key of the element at `at`: the kernel writes it first."""
    return data[at + 8 : at + 8 + size]


def held(data: bytes, start: int, end: int) -> Held:
    """Return an element; `seconds` is 0 in a set whose elements stay."""
    found = _attributes(data, start, end)
    inner = _attributes(data, *found[1])
    at, stop = inner.get(1) or inner[2]
    key = data[at:stop]
    prefix = data[found[3][0]] if 3 in found else len(key) * 8
    return Held(key, prefix, _value(data, found, 6), _value(data, found, 25))


def _attributes(data: bytes, start: int, end: int) -> dict[int, Span]:
    """Return where the value of each attribute begins and ends."""
    found = {}
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        found[kind & _KIND] = (start + 4, start + length)
        start += max(4, (length + 3) & ~3)
    return found


def _value(data: bytes, found: dict[int, Span], kind: int) -> int:
    start, end = found.get(kind, (0, 0))
    return int.from_bytes(data[start:end])


def _text(data: bytes, span: Span) -> str:
    return data[span[0] : span[1]].rstrip(b"\0").decode(errors="replace")
