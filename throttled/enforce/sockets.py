"""Open TCP connections at the ports of this host: the peer of each, and which side sends next.

As `ss -K` does it: asks inet_diag for the open sockets, once a call, and destroys some of them
(linux/inet_diag.h, linux/sock_diag.h). Costs O(open sockets), and O(memory of the machine) for the
kernel's hash table. Needs CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY. Where that
fails sessions time out by themselves: it is logged, once for each reason, and is no error.

Sees the sockets of its own network namespace, by their local port. Listing all takes 0.2 ms with
few in 24 GB of memory (262,144 buckets), 0.8 ms beside other work. Owns nothing.
"""

import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from throttled.address import unmapped
from throttled.linux.netlink import ACK, DUMP, attributes, error, message
from throttled.linux.netlink_socket import SOCK_DIAG, Netlink

log = logging.getLogger(__name__)

#: TCPDIAG_GETSOCK, SOCK_DESTROY. The first is of before Linux 3.3, and the only one that asks for
#: both IP versions: the kernel walks its whole hash table for each question.
_GET, _DESTROY = 18, 21
#: TCP_ESTABLISHED and TCP_CLOSE_WAIT: what an smtpd still holds.
_STATES = 1 << 1 | 1 << 8
_TIME_WAIT, _LISTEN = 6, 10
_TOGETHER = 100

_LIST = struct.Struct("=3x B 48x I 4x")  # inet_diag_req: what to add, states
_ASKED = struct.Struct("=BB2xI48s")  # inet_diag_req_v2: family, protocol, states, id
#: inet_diag_msg: state, ports and far address, length of the receive queue, inode.
_ANSWER = struct.Struct("=x B 2x 2s 2s 16x 16s 12x 4x I 8x I")
#: tcp_info, an attribute (INET_DIAG_INFO) behind it: see `_Info`.
_INFO = struct.Struct("=24x I 16x I 4x I I 60x Q Q")
_INET_DIAG_INFO, _INET_DIAG_CGROUP_ID = 2, 21
_WITH_INFO = 1 << (_INET_DIAG_INFO - 1)
#: In an inet_diag_msg.
_STATE_AT, _ID_AT, _ENDS_END, _ID_END, _INODE_AT, _ATTRIBUTES_AT = 1, 4, 40, 52, 68, 72
_ESTABLISHED = 1


class _Info(NamedTuple):
    """What tcp_info says, in its order; times are milliseconds since then."""

    unacknowledged: int  # packets
    sent: int  # data
    received: int  # data
    acknowledged: int  # an acknowledgement came
    bytes_acknowledged: int
    bytes_received: int


class Socket(NamedTuple):
    """An open connection of a process here."""

    family: int
    identity: bytes  # inet_diag_sockid: ports, addresses and the kernel's cookie
    port: int  # here
    far: bytes  # the other end's packed address …
    far_port: int  # … and its port
    inode: int
    waits: bool  # this end has answered all that it received
    received: int = 0  # bytes; 0 where the kernel does not say
    spoken: bool = True  # this end has sent something


def opened(ports: Collection[int]) -> list[Socket]:
    """Return the open connections to some local ports; none where the kernel does not say."""
    found = []
    try:
        for family, data, at, end in _listed(_STATES, _WITH_INFO):
            state, port, far_port, far, unread, inode = _ANSWER.unpack_from(data, at)
            if int.from_bytes(port) in ports:
                hung_up = state != _ESTABLISHED  # which counts as a byte received
                info = _info(data, at, end)
                answered = unread <= hung_up and _answered(info, hung_up=hung_up)
                ends = int.from_bytes(port), _far_end(family, far), int.from_bytes(far_port)
                identity = data[at + _ID_AT : at + _ID_END]
                spoken = info is None or bool(info.unacknowledged or info.bytes_acknowledged)
                about = (0 if info is None else info.bytes_received, spoken)
                found.append(Socket(family, identity, *ends, inode, answered, *about))
    except OSError as refused:
        _say(refused.errno or 0)
    return found


def destroy(sockets: Iterable[Socket]) -> int:
    """Destroy sockets, as if the connection had been lost; return how many that were."""
    requests = [
        message(_DESTROY, ACK, _ASKED.pack(one.family, socket.IPPROTO_TCP, _STATES, one.identity))
        for one in sockets
    ]
    ended = 0
    try:
        with Netlink(SOCK_DIAG) as netlink:
            for at in range(0, len(requests), _TOGETHER):
                for answer in netlink.ask(requests[at : at + _TOGETHER]):
                    code = error(answer)
                    ended += code == 0
                    if code not in (0, errno.ENOENT):  # that one has ended by itself
                        _say(code)
    except OSError as refused:
        _say(refused.errno or 0)
    return ended


def connections(ports: Iterable[int]) -> set[bytes]:
    """Return the connections to ports that a process has accepted, those of the last minute too.

    (TIME_WAIT, where the end that hung up first stays for 60 s: mostly the server's.) Each is named
    by its ports and addresses.

    Raises:
        OSError: the kernel does not tell.
    """
    wanted = {port.to_bytes(2) for port in ports}
    return {
        data[at + _ID_AT : at + _ENDS_END]
        for _family, data, at, _end in _listed(_STATES | 1 << _TIME_WAIT)
        if data[at + _ID_AT : at + _ID_AT + 2] in wanted
        and (data[at + _STATE_AT] == _TIME_WAIT or any(data[at + _INODE_AT : at + _ATTRIBUTES_AT]))
    }


def listened() -> set[int]:
    """Return the ports of this host that have a listening socket.

    Raises:
        OSError: the kernel does not tell.
    """
    return {
        int.from_bytes(data[at + _ID_AT : at + _ID_AT + 2])
        for _family, data, at, _end in _listed(1 << _LISTEN)
    }


def listeners(ports: Collection[int]) -> set[int]:
    """Return the control groups (of version 2) of the sockets that listen at some ports.

    Each is the number of its directory's inode; 0 where the kernel does not say (before Linux 5.9).

    Raises:
        OSError: the kernel does not answer.
    """
    found = set()
    for _family, data, at, end in _listed(1 << _LISTEN):
        if int.from_bytes(data[at + _ID_AT : at + _ID_AT + 2]) in ports:
            about = attributes(data, at + _ATTRIBUTES_AT, end)
            start, stop = about.get(_INET_DIAG_CGROUP_ID, (0, 0))
            found.add(int.from_bytes(data[start:stop], sys.byteorder))
    return found


def _info(data: bytes, at: int, end: int) -> _Info | None:
    """Return what tcp_info says of a socket; None where the kernel does not say."""
    start, stop = attributes(data, at + _ATTRIBUTES_AT, end).get(_INET_DIAG_INFO, (0, 0))
    return _Info(*_INFO.unpack_from(data, start)) if stop - start >= _INFO.size else None


def _answered(info: _Info | None, *, hung_up: bool) -> bool:
    """Return whether this end spoke last, or nothing was said to it.

    Times are in ticks of the kernel of up to 10 ms: where data went both ways within one, an
    acknowledgement that came after the latest data tells that there was an answer to acknowledge
    (but not of a far end that hung up: its end acknowledges too).
    """
    if info is None:
        return False
    later = not hung_up and not info.unacknowledged and info.acknowledged < info.received
    return info.bytes_received <= hung_up or info.sent < info.received or later


def _listed(states: int, more: int = 0) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield each socket in one of some states: its family, a buffer, where in it it is described.

    Raises:
        OSError: the kernel does not tell.
    """
    with Netlink(SOCK_DIAG) as netlink:
        for answer in netlink.dump(message(_GET, DUMP, _LIST.pack(more, states))):
            yield answer.data[answer.start], answer.data, answer.start, answer.end


def _far_end(family: int, far: bytes) -> bytes:
    """Return the packed address of a peer; in a dual-stack socket IPv4 is mapped into IPv6."""
    if family == socket.AF_INET:
        return far[:4]
    return unmapped(far)


@cache
def _say(number: int) -> None:
    """Log why sessions are left to time out; once for each reason."""
    why = os.strerror(number)
    if number == errno.EOPNOTSUPP:
        why = "this kernel has no CONFIG_INET_DIAG_DESTROY"
    log.warning("sessions of banned clients are not ended but time out: %s", why)
