"""Packets as bytes: a TCP segment to a port, in every wrapping that an Ethernet brings.

Only what is looked at is right: lengths, the checksum of IPv4 and what names the next header.
"""

import struct
from collections.abc import Sequence
from ipaddress import ip_address

SYN, ACK, PSH = 0x02, 0x10, 0x08
#: Ethernet types of VLAN tags: 802.1Q and 802.1ad
DOT1Q, DOT1AD = 0x8100, 0x88A8
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, ESP = 0, 43, 44, 51, 60, 50
TCP, UDP = 6, 17

_MACS = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02"


def tcp(port: int = 25, flags: int = SYN, options: bytes = b"") -> bytes:
    """Return a TCP header. Options: a multiple of four bytes."""
    length = 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, length << 4, flags, 64_000, 0, 0) + options


def ip4(  # noqa: PLR0913 - the fields of a header
    source: str,
    target: str,
    payload: bytes,
    *,
    protocol: int = TCP,
    options: bytes = b"",
    fragment: int = 0,
    number: int = 7,
) -> bytes:
    """Return an IPv4 packet.

    Args:
        source: from.
        target: to.
        payload: what follows the header.
        protocol: of it.
        options: a multiple of four bytes.
        fragment: flags and offset, as in the header.
        number: of the packet, for its fragments.
    """
    words = 5 + len(options) // 4
    total = words * 4 + len(payload)
    addresses = ip_address(source).packed + ip_address(target).packed
    start = struct.pack("!BBHHHBB", 0x40 | words, 0, total, number, fragment, 64, protocol)
    check = _checksum(start + b"\0\0" + addresses + options)
    return start + check.to_bytes(2) + addresses + options + payload


def ip6(
    source: str, target: str, payload: bytes, extensions: Sequence[bytes] = (), last: int = TCP
) -> bytes:
    """Return an IPv6 packet.

    Args:
        source: from.
        target: to.
        payload: what follows all headers.
        extensions: of `extension`.
        last: what the payload is.
    """
    kinds = [each[0] for each in extensions] + [last]
    chain = b"".join(
        bytes([following]) + each[2:] for each, following in zip(extensions, kinds[1:], strict=True)
    )
    start = struct.pack("!IHBB", 6 << 28, len(chain) + len(payload), kinds[0], 64)
    addresses = ip_address(source).packed + ip_address(target).packed
    return start + addresses + chain + payload


def extension(
    kind: int, *, size: int = 8, offset: int = 0, more: bool = False, number: int = 9
) -> bytes:
    """Return an extension header after a byte that says its kind: for `ip6`.

    Args:
        kind: HOP_BY_HOP and so on.
        size: bytes of the whole header, a multiple of eight (AUTHENTICATION: of four).
        offset: of a fragment, in units of eight bytes.
        more: whether fragments follow this one.
        number: of the packet, for its fragments.
    """
    if kind == FRAGMENT:
        return bytes([kind, 0]) + struct.pack("!BHI", 0, offset << 3 | more, number)
    length = size // 4 - 2 if kind == AUTHENTICATION else size // 8 - 1
    return bytes([kind, 0, length]) + bytes(size - 2)


def ethernet(packet: bytes, tags: Sequence[int] = (), macs: bytes = _MACS) -> bytes:
    """Return a frame.

    Args:
        packet: of IP.
        tags: the Ethernet types of VLAN tags around it.
        macs: to whom, from whom.
    """
    kinds = [*tags, 0x0800 if packet[0] >> 4 == 4 else 0x86DD]
    frame = macs + kinds[0].to_bytes(2)
    for number, following in enumerate(kinds[1:], 10):
        frame += struct.pack("!HH", number, following)
    return frame + packet


def syn(source: str, target: str, port: int = 25, macs: bytes = _MACS) -> bytes:
    """Return a frame that opens a connection, with the options that a Linux sends."""
    segment = tcp(port, SYN, bytes.fromhex("020405b40402080a0000000100000000 01030307"))
    packet = ip6 if ":" in source else ip4
    return ethernet(packet(source, target, segment), macs=macs)


def opening(source: str, target: str, sport: int, port: int = 25) -> bytes:
    """Return a TCP header that opens a connection, with its checksum."""
    header = sport.to_bytes(2) + tcp(port, SYN)[2:]
    # The pseudo header of IPv6 has other fields, and the same sum.
    pseudo = ip_address(source).packed + ip_address(target).packed + struct.pack("!HH", TCP, 20)
    return header[:16] + _checksum(pseudo + header).to_bytes(2) + header[18:]


def _checksum(header: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f"!{len(header) // 2}H", header)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
