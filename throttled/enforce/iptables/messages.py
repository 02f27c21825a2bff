"""nfnetlink messages of ip_set: packed and parsed. Pure.

Layout: linux/netlink.h and linux/netfilter/ipset/ip_set.h. Elements are packed here because that
is what one ban and ten thousand of them cost: pyroute2's IPSet adds 1,800 a second, `ipset restore`
36,000. A message that adds or deletes many takes effect one element after the other; the kernel
stops at the first that it refuses, and its error says which that was.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from throttled.linux import netlink as nl
from throttled.linux.netlink import Message, Span

# NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_*
_CREATE, _DESTROY, _SWAP, _LIST, _ADD, _DELETE, _TEST = (
    0x0602, 0x0603, 0x0606, 0x0607, 0x0609, 0x060A, 0x060B,
)  # fmt: skip
_VERSION = nl.attribute(
    1, b"\6"
)  # IPSET_ATTR_PROTOCOL, of Linux 2.6.39; later kernels speak it too

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
    4353: "the kernel does not accept this element",
}

_ONLY_NEW = 0x200  # NLM_F_EXCL
_COUNTERS = 1 << 3  # IPSET_FLAG_WITH_COUNTERS
_HEADERS = 1 << 2  # IPSET_FLAG_LIST_HEADER
_FAMILIES = {4: 2, 6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6
#: The revision of each type that brought counters, all in Linux 3.10.
_REVISIONS = {"hash:ip": 1, "hash:net": 4, "hash:ip,port": 2}

#: Elements of one message: the error repeats it, and has to fit into one read.
TOGETHER = 400
#: The longest that an element can last, 24 days and 20 hours: IPSET_MAX_TIMEOUT.
LONGEST = (0xFFFFFFFF >> 1) // 1000


class IpsetDefinition(NamedTuple):
    """What a set is, in the kernel's words. `timeout` 0: elements stay."""

    kind: str  # hash:ip, hash:net or hash:ip,port
    version: int  # 4 or 6
    size: int
    timeout: int  # seconds, of elements that come without


class IpsetHeader(NamedTuple):
    """A set as the kernel describes it."""

    name: str
    definition: IpsetDefinition
    elements: int
    references: int  # by rules


class IpsetElement(NamedTuple):
    """An element that a set holds."""

    key: bytes
    prefix: int
    seconds: int  # time left
    packets: int


def reason(number: int) -> str:
    """Return what an error beyond errno means; empty for an errno."""
    return _REASONS.get(number, f"ip_set error {number}" if number >= PRIVATE else "")


# Packing


def _message(kind: int, flags: int, *parts: bytes, sequence: int = 0) -> bytes:
    # After a struct nfgenmsg: no family. The kernel takes that of the set.
    return nl.message(kind, flags, b"".join((bytes(4), _VERSION, *parts)), sequence)


def _big(kind: int, value: int) -> bytes:
    return nl.attribute(kind | nl.BIG_ENDIAN, value.to_bytes(4))


def parts(key: bytes, prefix: int) -> tuple[tuple[bytes, int], ...]:
    """Return the elements that a subject is, each a key and its prefix; 0 for an address."""
    if prefix == 0:
        return (key, 1), (b"\x80" + key[1:], 1)
    return ((key, 0 if prefix == len(key) * 8 else prefix),)


def element(key: bytes, prefix: int, seconds: int, line: int) -> bytes:
    """Pack an element; what deletes or tests one needs no time.

    Args:
        key: 4 or 16 bytes.
        prefix: of a network, at least 1; 0 for an address.
        seconds: time left, at most `LONGEST`; 0 leaves it out.
        line: comes back if the kernel refuses this one.
    """
    address = nl.attribute((1 if len(key) == 4 else 2) | nl.BIG_ENDIAN, key)
    return nl.attribute(
        7 | nl.NESTED,  # IPSET_ATTR_DATA
        nl.attribute(1 | nl.NESTED, address)
        + (nl.attribute(3, bytes((prefix,))) if prefix else b"")
        + (_big(6, seconds) if seconds else b"")
        + nl.attribute(9, struct.pack("=I", line)),
    )


def add(name: str, packed: Sequence[bytes]) -> bytes:
    """Pack a message that adds elements, at most `TOGETHER`, or renews those that are there."""
    return _batch(_ADD, name, packed)


def delete(name: str, packed: Sequence[bytes]) -> bytes:
    """Pack a message that deletes elements, at most `TOGETHER`, there or not."""
    return _batch(_DELETE, name, packed)


def _batch(kind: int, name: str, packed: Sequence[bytes]) -> bytes:
    line = nl.attribute(9, bytes(4))  # before the elements, to be found in an error cut short
    return _message(
        kind, nl.ACK, nl.text(2, name), line, nl.attribute(8 | nl.NESTED, b"".join(packed))
    )


def test(name: str, packed: bytes, sequence: int) -> bytes:
    """Pack a question whether a set holds an element; `EXISTS` says that it does not."""
    return _message(_TEST, nl.ACK, nl.text(2, name), packed, sequence=sequence)


def create(name: str, definition: IpsetDefinition, mask: int = 0) -> bytes:
    """Pack a message that makes a set, which must not be there. Its elements are counted.

    Args:
        name: of it.
        definition: what it is.
        mask: of a hash:ip, how many bits of an address are looked at; 0: all.
    """
    data = (
        _big(19, definition.size),  # IPSET_ATTR_MAXELEM
        _big(8, _COUNTERS),  # IPSET_ATTR_CADT_FLAGS
        _big(6, definition.timeout) if definition.timeout else b"",
        nl.attribute(20, bytes((mask,))) if mask else b"",  # IPSET_ATTR_NETMASK
    )
    return _message(
        _CREATE,
        nl.ACK | _ONLY_NEW,
        nl.text(2, name),
        nl.text(3, definition.kind),
        nl.attribute(4, bytes((_REVISIONS[definition.kind],))),
        nl.attribute(5, bytes((_FAMILIES[definition.version],))),
        nl.attribute(7 | nl.NESTED, b"".join(data)),
    )


def destroy(name: str) -> bytes:
    """Pack a message that destroys a set."""
    return _message(_DESTROY, nl.ACK, nl.text(2, name))


def swap(name: str, other: str) -> bytes:
    """Pack a message that swaps what two sets of one type hold; rules stay with the names."""
    return _message(_SWAP, nl.ACK, nl.text(2, name), nl.text(3, other))


def headers() -> bytes:
    """Pack a question for all sets, without elements. The kernel walks them, to count."""
    return _message(_LIST, nl.DUMP, _big(6, _HEADERS))


def header(name: str) -> bytes:
    """Pack a question for one set, without elements."""
    return _message(_LIST, nl.DUMP, nl.text(2, name), _big(6, _HEADERS))


def dump(name: str) -> bytes:
    """Pack a question for all elements of a set."""
    return _message(_LIST, nl.DUMP, nl.text(2, name))


# Parsing


def line_of(answer: Message) -> int:
    """Return the line of the element that an error is about."""
    data = answer.data
    start = answer.start + 4 + 20  # the errno; the header of the message that is repeated
    found = nl.attributes(data, start, answer.end)
    at, end = found.get(9, (0, 0))
    return int(struct.unpack("=I", data[at:end])[0]) if end - at == 4 else -1


def header_of(answer: Message) -> IpsetHeader | None:
    """Return a set from an answer to `headers`; None for a kind that throttled does not use."""
    data = answer.data
    found = nl.attributes(data, answer.start + 4, answer.end)
    if not {2, 3, 5, 7} <= found.keys():
        return None
    inner = nl.attributes(data, *found[7])
    kind, family = nl.string(data, found, 3), data[found[5][0]]
    version = {number: version for version, number in _FAMILIES.items()}.get(family, 0)
    definition = IpsetDefinition(
        kind, version, nl.number(data, inner, 19), nl.number(data, inner, 6)
    )
    elements, references = nl.number(data, inner, 24), nl.number(data, inner, 25)
    return IpsetHeader(nl.string(data, found, 2), definition, elements, references)


def elements(answer: Message) -> Iterator[Span]:
    """Yield where each element of an answer to `dump` begins and ends."""
    data = answer.data
    body = nl.attributes(data, answer.start + 4, answer.end)
    return nl.items(data, body.get(8))  # IPSET_ATTR_ADT


def key_of(data: bytes, at: int, size: int) -> bytes:
    """Return the key of the element at `at`: the kernel writes it first."""
    return data[at + 8 : at + 8 + size]


def read(data: bytes, start: int, end: int) -> IpsetElement:
    """Return an element; `seconds` is 0 in a set whose elements stay."""
    found = nl.attributes(data, start, end)
    inner = nl.attributes(data, *found[1])
    at, stop = inner.get(1) or inner[2]
    key = data[at:stop]
    prefix = data[found[3][0]] if 3 in found else len(key) * 8
    return IpsetElement(key, prefix, nl.number(data, found, 6), nl.number(data, found, 25))
