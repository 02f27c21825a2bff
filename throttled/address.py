"""Subjects: addresses and networks as canonical text, made and read here alone. Pure.

A *subject* is the text of an address (`192.0.2.7`, `2001:db8::1`) or of a network with its prefix
length (`192.0.2.0/24`, `2001:db8::/64`). Text is canonical (what `inet_ntop` writes, IPv4-mapped
IPv6 as IPv4), so equal subjects are equal strings; it needs no conversion on its way into
nftables, SQLite or a table on the screen. Other subjects (`account:NAME`) begin with their kind and
a colon; `parse` refuses them. Other modules ask here what a subject is: a test finds those that
read its text. Owns no state.
"""

from collections.abc import Mapping
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Literal, TypeVar, get_args

Value = TypeVar("Value")
Named = Literal["account", "uid", "mailbox", "domain"]
Kind = Literal["address", "network"] | Named

#: None of them is a group of hexadecimal digits, so no IPv6 address begins like it.
_NAMED: dict[str, Named] = {name: name for name in get_args(Named)}
_MAPPED = b"\0" * 10 + b"\xff\xff"

#: Prefixes that embed many unrelated IPv4 clients: never grouped into a /64
#: (RFC 6052 NAT64, RFC 8215 local NAT64, RFC 4380 Teredo, RFC 3056 6to4).
_SHARED_PREFIXES = (
    inet_pton(AF_INET6, "64:ff9b::")[:12],
    inet_pton(AF_INET6, "64:ff9b:1::")[:6],
    inet_pton(AF_INET6, "2001::")[:4],
    inet_pton(AF_INET6, "2002::")[:2],
)
LOOPBACK = ("127.0.0.0/8", "::1")


def pack(address: str) -> bytes:
    """Return the 4 or 16 bytes of an address; IPv4-mapped IPv6 gives 4.

    Raises:
        ValueError: the text is not an address.
    """
    try:
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, UnicodeError, ValueError) as error:
        raise ValueError(f"not an IP address: {address!r}") from error
    return unmapped(packed)


def unmapped(packed: bytes) -> bytes:
    """Return the 4 bytes of an IPv4-mapped IPv6 address; other bytes as they are."""
    return packed[12:] if packed.startswith(_MAPPED) else packed


def unpack(packed: bytes) -> str:
    """Return the canonical text of 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def text(packed: bytes, prefix: int) -> str:
    """Return the canonical text of a network without host bits; of an address at full length."""
    return unpack(packed) if prefix == len(packed) * 8 else f"{unpack(packed)}/{prefix}"


def canonical(address: str) -> str:
    """Return the canonical text of an address.

    Raises:
        ValueError: the text is not an address.
    """
    packed = pack(address)
    # inet_pton takes only the canonical form of IPv4: four numbers without leading zeros.
    return unpack(packed) if ":" in address else address


def mask(packed: bytes, prefix: int) -> bytes:
    """Return the packed address with all bits after `prefix` cleared."""
    bits = len(packed) * 8
    host = bits - prefix
    return (int.from_bytes(packed) >> host << host).to_bytes(len(packed))


@lru_cache(maxsize=4096)  # of a batch of bans each is asked for four times
def parse(subject: str) -> tuple[bytes, int]:
    """Return (packed network address, prefix length) of an address or a network.

    Host bits after the prefix are cleared: `192.0.2.7/24` is the network `192.0.2.0/24`.

    Raises:
        ValueError: the text is neither.
    """
    base, slash, length = subject.partition("/")
    packed = pack(base)
    bits = len(packed) * 8
    if not slash:
        return packed, bits
    if not (length.isascii() and length.isdigit() and len(length) <= 3):
        raise ValueError(f"not a prefix length: {length!r}")
    prefix = int(length)
    if ":" in base and bits == 32:  # ::ffff:192.0.2.0/120
        prefix -= 96
    if not 0 <= prefix <= bits:
        raise ValueError(f"prefix length out of range: {length!r}")
    return mask(packed, prefix), prefix


def subject(written: str) -> str:
    """Return the canonical text of an address or network; a full-length prefix is dropped.

    Raises:
        ValueError: what is written is neither.
    """
    return text(*parse(written))


def is_subject(written: str) -> bool:
    """Tell an address or network from other text, such as a host name."""
    try:
        parse(written)
    except ValueError:
        return False
    return True


def kind(canonical_subject: str) -> Kind:
    """Return what a canonical subject is."""
    named = _NAMED.get(canonical_subject.partition(":")[0])
    if named is not None:
        return named
    return "network" if "/" in canonical_subject else "address"


def is_named(canonical_subject: str) -> bool:
    """Return whether a canonical subject is no address, but for example an account."""
    return canonical_subject.partition(":")[0] in _NAMED


def version(canonical_subject: str) -> int:
    """Return 4 or 6 for an address or a network, given as canonical subject."""
    return 6 if ":" in canonical_subject else 4


def is_network(canonical_subject: str) -> bool:
    """Return whether a canonical subject is a network; asked of each event that counts."""
    return "/" in canonical_subject and (
        ":" not in canonical_subject or kind(canonical_subject) == "network"
    )


_LOOPBACK = tuple(map(parse, LOOPBACK))
#: RFC 1918, RFC 6598 (carriers' NAT), RFC 4193.
_PRIVATE = tuple(
    map(parse, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)


def is_loopback(written: str) -> bool:
    """Return whether text is a loopback address, or a network of nothing else."""
    return _lies_in(written, _LOOPBACK)


@lru_cache(maxsize=16_384)  # asked of each client that delivers
def is_private(written: str) -> bool:
    """Return whether text is an address that no one has on the Internet."""
    return _lies_in(written, _PRIVATE)


def _lies_in(written: str, networks: tuple[tuple[bytes, int], ...]) -> bool:
    try:
        packed, prefix = parse(written)
    except ValueError:
        return False
    return any(net[1] <= prefix and contains(net, packed) for net in networks)


@lru_cache(maxsize=16_384)  # asked of each event that counts
def network_of(canonical_subject: str) -> str:
    """Return the network that an address is grouped into: its /24 or its /64.

    Empty for IPv6 prefixes that embed unrelated IPv4 clients, which are never grouped, and for
    subjects that are no address.
    """
    if kind(canonical_subject) != "address":
        return ""
    packed = pack(canonical_subject)
    if len(packed) == 4:
        return unpack(packed[:3] + b"\0") + "/24"
    if packed.startswith(_SHARED_PREFIXES):
        return ""
    return unpack(packed[:8] + b"\0" * 8) + "/64"


def host_bits(written: str, canonical: str) -> bool:
    """Return whether what was written is another address of the network than its first one.

    Args:
        written: a network or anything else, in any form.
        canonical: what it means.
    """
    base, slash, _ = written.partition("/")
    if not slash or not is_network(canonical):
        return False
    return subject(base) != canonical.partition("/")[0]


def inside(subject: str, outer: str) -> bool:
    """Return whether a subject is another one or lies inside it; nothing lies inside other text.

    Raises:
        ValueError: the first is no subject.
    """
    if is_named(subject):
        return subject == outer
    packed, prefix = parse(subject)
    network = _network(outer)
    return network is not None and network[1] <= prefix and contains(network, packed)


def around(subject: str) -> list[str]:
    """Return a subject and every network that contains it, the narrowest first.

    Raises:
        ValueError: it is no subject.
    """
    if is_named(subject):
        return [subject]
    packed, prefix = parse(subject)
    return [text(mask(packed, n), n) for n in range(prefix, -1, -1)]


@lru_cache(maxsize=1)  # SQLite asks of each row, all with the same network
def _network(written: str) -> tuple[bytes, int] | None:
    return parse(written) if is_subject(written) else None


def covering(tables: Mapping[int, Mapping[bytes, Value]], subject: str) -> Value | None:
    """Return the value of a subject or of what contains it, in the order of the tables.

    Args:
        tables: values by prefix length and packed address, see `parse`. IPv4 and IPv6 may share a
            table: their packed lengths differ, so keys cannot meet.
        subject: an address or a network.

    Raises:
        ValueError: it is neither.
    """
    return covering_parsed(tables, parse(subject))


def covering_parsed(
    tables: Mapping[int, Mapping[bytes, Value]], subject: tuple[bytes, int]
) -> Value | None:
    """Return what `covering` does, for a parsed subject (see `parse`)."""
    packed, length = subject
    for prefix, members in tables.items():
        if prefix <= length:
            found = members.get(mask(packed, prefix))
            if found is not None:
                return found
    return None


def contains(network: tuple[bytes, int], packed: bytes) -> bool:
    """Return whether a parsed network (see `parse`) contains a packed address."""
    base, prefix = network
    if len(base) != len(packed):
        return False
    host = len(packed) * 8 - prefix
    return int.from_bytes(packed) >> host == int.from_bytes(base) >> host
