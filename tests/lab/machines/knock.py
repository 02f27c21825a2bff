"""Bare SYNs from one address, and how many were answered. IPv4 and IPv6; needs root."""

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from lab.network.netns import SERVER4, SERVER6, Namespace
from lab.network.spoof import segment

_PORT = 25
_FIRST = 20_000  # source port of the first SYN; each has one of its own
_SYN_ACK = 0x12
_ANSWER = 3.0  # seconds that an answer of an emulated machine may take


class Knocks(NamedTuple):
    """What became of SYNs."""

    sent: int
    answered: int


def knock(client: Namespace, source: str, count: int = 20, rate: float = 20.0) -> Knocks:
    """Send `count` SYNs, `rate` a second, and count the answers."""
    return knock_while(client, source, lambda sent: sent < count, rate)


def knock_while(
    client: Namespace, source: str, on: Callable[[int], bool], rate: float = 20.0
) -> Knocks:
    """Send SYNs as long as `on`, given how many were sent, says so, and count the answers.

    A port is used again after 40,000 SYNs. While nobody answers ARP, SYNs go nowhere.
    """
    target = SERVER6 if ":" in source else SERVER4
    start, to = (ipaddress.ip_address(each).packed for each in (source, target))
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with client.entered():
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    sent, answered = 0, set[int]()
    with raw:
        raw.bind((source, 0))
        raw.setblocking(False)
        while on(sent):
            until = time.monotonic() + 1 / rate
            try:
                raw.sendto(segment(start, to, _FIRST + sent % 40_000, _PORT), (target, 0))
                sent += 1
            except OSError:  # no neighbour: the machine is down
                pass
            _collect(raw, target, until, answered)
        _collect(raw, target, time.monotonic() + _ANSWER, answered)
    return Knocks(sent, len(answered))


def _collect(raw: socket.socket, target: str, until: float, answered: set[int]) -> None:
    """Add to `answered` the ports that SYN-ACKs come to, until a time."""
    while (left := until - time.monotonic()) > 0:
        if not select.select([raw], [], [], left)[0]:
            return
        try:
            data, (address, *_) = raw.recvfrom(2048)
        except OSError:  # an ICMP error for what was sent
            continue
        if ":" not in target:
            data = data[(data[0] & 15) * 4 :]  # IPv4 comes with its header
        source_port, port = struct.unpack_from("!HH", data)
        if address == target and source_port == _PORT and data[13] & _SYN_ACK == _SYN_ACK:
            answered.add(port)
