"""nfnetlink messages about sets, their elements and counters: packed and parsed. Pure.

Elements do not go through libnftables: before it adds one, it reads every interval set of the
host into a cache, so a list of countries in another program's table makes each ban slow (0.2 ms;
40 ms beside a set of 20,000 networks); asked for one element that is absent, it fails the whole
request; and it cannot list a set without reading all elements. Here the kernel is asked for just
what is meant. Layout: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

from throttled.linux import netlink as nl
from throttled.linux.netlink import Attributes, Message, Span

# Message types: nfnetlink's own, and NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_*.
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM = 0x0A
_NEW_ELEMENTS, _GET_ELEMENTS, _DELETE_ELEMENTS = 0x0A0C, 0x0A0D, 0x0A0E
_GET_SET, _NEW_GENERATION, _GET_OBJECT = 0x0A0A, 0x0A0F, 0x0A13
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = 0x0A00, 0x0A01, 0x0A02
_GET_CHAIN, _GET_RULE, _NEW_SET, _DELETE_SET = 0x0A04, 0x0A07, 0x0A09, 0x0A0B

_CREATE = 0x400  # NLM_F_CREATE
_INET = b"\1"  # NFPROTO_INET
_COUNTER = 1  # NFT_OBJECT_COUNTER
_INVERTED = 1  # NFT_LIMIT_F_INV: "over"
_SHAPE = 0xFF  # of NFT_SET_*: those that say what a set can hold

#: An element that was added manually without a timeout: as long as any duration may be.
_FOR_EVER = 3650 * 86_400_000

Verb = Callable[[str, str, Sequence[bytes], int], bytes]


class SetDefinition(NamedTuple):
    """The part of a set that cannot be changed once it exists."""

    size: int
    limit: tuple[int, int, int] | None  # packets, in how many seconds, burst; None: drops all
    key: int  # bytes
    flags: int  # NFT_SET_*


class NftElement(NamedTuple):
    """One element that a set holds."""

    key: bytes
    milliseconds: int  # time left
    packets: int


# Packing


def _message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return nl.message(kind, flags, _INET + b"\0\0\0" + body, sequence)  # after a struct nfgenmsg


def _element_head(size: int) -> bytes:
    return (
        nl.ATTRIBUTE.pack(36 + size, 1 | nl.NESTED)  # NFTA_LIST_ELEM
        + nl.ATTRIBUTE.pack(8 + size, 1 | nl.NESTED)  # NFTA_SET_ELEM_KEY
        + nl.ATTRIBUTE.pack(4 + size, 1)  # NFTA_DATA_VALUE
    )


_HEADS = {size: _element_head(size) for size in (4, 16)}
# Around a transaction, each with a struct nfgenmsg: family, version, resource.
_BEGIN = nl.message(_BATCH_BEGIN, 0, _SUBSYSTEM.to_bytes(4))
_END = nl.message(_BATCH_END, 0, _SUBSYSTEM.to_bytes(4))
_COUNTERS = nl.attribute(3, _COUNTER.to_bytes(4))  # NFTA_OBJ_TYPE
_TIMEOUT = nl.ATTRIBUTE.pack(12, 4)  # NFTA_SET_ELEM_TIMEOUT
_EXPIRATION = nl.ATTRIBUTE.pack(12, 5)  # NFTA_SET_ELEM_EXPIRATION


def element(key: bytes, milliseconds: int) -> bytes:
    """Pack an element. What deletes or asks for one ignores the time.

    Without the expiration, an element that had the same time to live before would not be renewed.

    Args:
        key: 4 or 16 bytes.
        milliseconds: time left, at least 1.

    Raises:
        OverflowError: no such time can be written.
    """
    left = milliseconds.to_bytes(8)
    return _HEADS[len(key)] + key + _TIMEOUT + left + _EXPIRATION + left


def add(table: str, name: str, packed: Sequence[bytes], sequence: int) -> bytes:
    """Pack a message that adds elements. Those that are there are renewed since Linux 6.12.

    Args:
        table: our table.
        name: the set's.
        packed: from `element`; at most 1,000, as an attribute's length has 16 bits.
        sequence: comes back in an error.
    """
    return _message(_NEW_ELEMENTS, _CREATE, _list(table, name, packed), sequence)


def delete(table: str, name: str, packed: Sequence[bytes], sequence: int) -> bytes:
    """Pack a message that deletes elements, each of which must be there."""
    return _message(_DELETE_ELEMENTS, 0, _list(table, name, packed), sequence)


def transaction(messages: Iterable[bytes]) -> bytes:
    """Frame messages that take effect together or not at all; errors of the whole have number 0."""
    return b"".join((_BEGIN, *messages, _END))


def get_element(table: str, name: str, packed: bytes) -> bytes:
    """Pack a question for one element."""
    return _message(_GET_ELEMENTS, 0, _list(table, name, (packed,)))


def dump_elements(table: str, name: str) -> bytes:
    """Pack a question for all elements of a set."""
    return _message(_GET_ELEMENTS, nl.DUMP, _names(table, name))


def dump_sets(table: str) -> bytes:
    """Pack a question for the definitions of all sets of a table, without their elements."""
    return _message(_GET_SET, nl.DUMP, nl.text(1, table))


def dump_static(table: str) -> tuple[bytes, ...]:
    """Pack questions for tables, chains and rules; the kernel answers for more than this table."""
    return tuple(
        _message(kind, nl.DUMP, nl.text(1, table)) for kind in (_GET_TABLE, _GET_CHAIN, _GET_RULE)
    )


def get_counter(table: str, name: str) -> bytes:
    """Pack a question for a named counter."""
    return _message(_GET_OBJECT, 0, _names(table, name) + _COUNTERS)


def dump_counters(table: str) -> bytes:
    """Pack a question for all named counters of a table."""
    return _message(_GET_OBJECT, nl.DUMP, nl.text(1, table) + _COUNTERS)


def _list(table: str, name: str, packed: Sequence[bytes]) -> bytes:
    return _names(table, name) + nl.attribute(3 | nl.NESTED, b"".join(packed))


@cache
def _names(table: str, name: str) -> bytes:
    return nl.text(1, table) + nl.text(2, name)


# Parsing


def table_of(answer: Message) -> str:
    """Return the inet table that a notification is about; empty where it is about none."""
    kind, data, start = answer.kind, answer.data, answer.start
    if kind >> 8 != _SUBSYSTEM or kind == _NEW_GENERATION:
        return ""
    if data[start : start + 1] != _INET:
        return ""
    return nl.string(data, nl.attributes(data, start + 4, answer.end), 1)


def body(answer: Message) -> bytes:
    """Return a message without the fields that change with every transaction on this host."""
    return answer.data[answer.start + 4 : answer.end]


def is_of_elements(answer: Message) -> bool:
    """Return whether a notification is about elements of a set."""
    return answer.kind in (_NEW_ELEMENTS, _DELETE_ELEMENTS)


def is_of_table(answer: Message) -> bool:
    """Return whether a notification is about a table as a whole."""
    return answer.kind in (_NEW_TABLE, _DELETE_TABLE)


def set_name(answer: Message) -> str:
    """Return the set that a notification is about, or whose elements; "": about none."""
    if not is_of_elements(answer) and answer.kind not in (_NEW_SET, _DELETE_SET):
        return ""
    return nl.string(answer.data, nl.attributes(answer.data, answer.start + 4, answer.end), 2)


def set_of(answer: Message) -> tuple[str, SetDefinition]:
    """Return the name and the definition of a set from an answer to `dump_sets`.

    NFTA_SET_COUNT, the number of its elements, is there since Linux 6.16.
    """
    data = answer.data
    found = nl.attributes(data, answer.start + 4, answer.end)
    size = nl.number(data, nl.attributes(data, *found.get(9, (0, 0))), 1)  # NFTA_SET_DESC
    limit = None
    for expression in _expressions(data, found.get(17), found.get(18)):
        if nl.string(data, expression, 1) == "limit":
            value = partial(nl.number, data, nl.attributes(data, *expression[2]))
            if value(5) & _INVERTED:
                limit = value(1), value(2), value(3)
    key, flags = nl.number(data, found, 5), nl.number(data, found, 3)  # NFTA_SET_KEY_LEN, _FLAGS
    return nl.string(data, found, 2), SetDefinition(size, limit, key, flags & _SHAPE)


def count_of(answer: Message) -> int | None:
    """Return how many elements a set has, from an answer to `dump_sets`; None: it does not say."""
    found = nl.attributes(answer.data, answer.start + 4, answer.end)
    return nl.number(answer.data, found, 20) if 20 in found else None  # NFTA_SET_COUNT


def packets_of(answer: Message) -> int:
    """Return the packets of a named counter from an answer to `get_counter`."""
    return counter_of(answer)[1]


def counter_of(answer: Message) -> tuple[str, int]:
    """Return the name of a counter and its packets from an answer to `dump_counters`."""
    found = nl.attributes(answer.data, answer.start + 4, answer.end)
    packets = nl.number(answer.data, nl.attributes(answer.data, *found[4]), 2)  # NFTA_OBJ_DATA
    return nl.string(answer.data, found, 2), packets  # NFTA_OBJ_NAME


class ElementReader:
    """Reads elements out of answers about one set.

    Elements of one length are laid out alike unless they were added manually: a layout once
    found is tried on the next, which is three times as fast as taking each apart.
    """

    def __init__(self) -> None:
        self._layouts: dict[int, _Layout] = {}

    def elements(self, answer: Message) -> Iterator[NftElement]:
        """Yield the elements of one message."""
        data = answer.data
        body = nl.attributes(data, answer.start + 4, answer.end)
        for start, end in nl.items(data, body.get(3)):  # NFTA_SET_ELEM_LIST_ELEMENTS
            layout = self._layouts.get(end - start)
            if layout is None or not layout.fits(data, start):
                layout = _layout(data, start, end)
                if layout is None:  # `*`, which matches what nothing else does
                    continue
                self._layouts[end - start] = layout
            yield layout.read(data, start)


class _Layout(NamedTuple):
    """Where the values of an element are, counted from its start, and what stands before them."""

    key: int
    key_end: int
    expiration: int  # 0: it has none
    packets: int  # 0: it has none
    heads: tuple[bytes, bytes, bytes]

    def fits(self, data: bytes, at: int) -> bool:
        """Return whether the element at `at` is laid out like this."""
        key, expiration, packets = at + self.key, at + self.expiration, at + self.packets
        heads = (data[at:key], data[expiration - 4 : expiration], data[packets - 4 : packets])
        return bool(self.expiration and self.packets) and heads == self.heads

    def read(self, data: bytes, at: int) -> NftElement:
        """Return the element at `at`."""
        expiration, packets = at + self.expiration, at + self.packets
        return NftElement(
            data[at + self.key : at + self.key_end],
            int.from_bytes(data[expiration : expiration + 8]) if self.expiration else _FOR_EVER,
            int.from_bytes(data[packets : packets + 8]) if self.packets else 0,
        )


def _layout(data: bytes, at: int, end: int) -> _Layout | None:
    found = nl.attributes(data, at, end)
    if 1 not in found:  # NFTA_SET_ELEM_KEY, around NFTA_DATA_VALUE
        return None
    key, key_end = found[1][0] + 4, found[1][1]
    expiration = found[5][0] if 5 in found else at  # NFTA_SET_ELEM_EXPIRATION
    packets = at
    for expression in _expressions(data, found.get(7), found.get(11)):
        if nl.string(data, expression, 1) == "counter":
            packets = nl.attributes(data, *expression[2])[2][0]  # NFTA_COUNTER_PACKETS
    heads = (data[at:key], data[expiration - 4 : expiration], data[packets - 4 : packets])
    return _Layout(key - at, key_end - at, expiration - at, packets - at, heads)


def _expressions(data: bytes, single: Span | None, several: Span | None) -> Iterator[Attributes]:
    """Yield the expressions of a set or an element: one is written otherwise than several."""
    for span in (single,) if single else nl.items(data, several):
        yield nl.attributes(data, *span)
