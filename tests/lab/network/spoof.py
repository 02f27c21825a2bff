"""SYNs under other people's addresses, as a flood forges them. IPv4; needs root.

The client's namespace owns the addresses, so it answers each SYN-ACK with a reset, as a host does
that is blamed for what it did not send.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable

from lab.network.netns import Namespace
from lab.network.packets import SYN, TCP

_HEADER = struct.Struct("!HHIIBBHHH")


def spoof(client: Namespace, sources: Iterable[str], target: str, port: int, each: int) -> None:
    """Send SYNs, `each` from every source, from a port of their own."""
    to = ipaddress.ip_address(target).packed
    with client.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for source in sources:
            start = ipaddress.ip_address(source).packed
            for number in range(each):
                syn = segment(start, to, 1024 + number, port)
                # The kernel fills in the length, the identification and the checksum: raw(7).
                header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, TCP, 0) + start + to
                raw.sendto(header + syn, (target, 0))


def opened(server: Namespace) -> int:
    """Return how many TCP segments a namespace has sent: a SYN-ACK for each SYN, first of all."""
    lines = server.run("cat", "/proc/net/snmp").stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["OutSegs"])


def segment(start: bytes, to: bytes, source_port: int, port: int) -> bytes:
    """Return a SYN; the checksum is right for both versions of IP (RFC 793, RFC 8200)."""
    fields = [source_port, port, 1, 0, 5 << 4, SYN, 64_000, 0, 0]
    whole = start + to + struct.pack("!HH", TCP, _HEADER.size) + _HEADER.pack(*fields)
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    fields[7] = ~total & 0xFFFF
    return _HEADER.pack(*fields)
