"""Open TCP connections at the ports of this host: who is at their far end, and who speaks next.

As `ss -K` does it: asks inet_diag for the open sockets, once a call and IP version, and destroys
some of them (linux/inet_diag.h, linux/sock_diag.h). Costs O(open sockets). Needs CAP_NET_ADMIN and
a kernel with CONFIG_INET_DIAG_DESTROY. Where that fails sessions time out by themselves: it is
logged, once for each reason, and is no error.

Sees the sockets of its own network namespace, by their local port. A look at all of them took
0.4 ms with few. Owns nothing.
"""

import errno
import logging
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

from throttled.address import unmapped

log = logging.getLogger(__name__)

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
#: TCP_ESTABLISHED and TCP_CLOSE_WAIT: what an smtpd still holds.
_STATES = 1 << 1 | 1 << 8
_TIME_WAIT, _LISTEN = 6, 10
_PIECE = 1 << 15
_TOGETHER = 100

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBBI48s")  # inet_diag_req_v2: family, protocol, -, -, states, id
#: inet_diag_msg: state, ports and far address, length of the receive queue, inode.
_ANSWER = struct.Struct("=x B 2x 2s 2s 16x 16s 12x 4x I 8x I")
#: tcp_info, an attribute (INET_DIAG_INFO) behind it: packets not acknowledged; milliseconds since
#: data was sent and received, and since an acknowledgement came; bytes received.
_INFO = struct.Struct("=24x I 16x I 4x I I 68x Q")
_ATTRIBUTE = struct.Struct("=HH")
_INET_DIAG_INFO = 2
_WITH_INFO = 1 << (_INET_DIAG_INFO - 1)
_ANSWER_AT, _ATTRIBUTES_AT = 16, 88
_ID_AT, _ID_END = 20, 68
_STATE_AT, _ENDS_END, _INODE_AT = 17, 56, 84
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_ESTABLISHED = 1


class Socket(NamedTuple):
    """An open connection of a process here."""

    family: int
    identity: bytes  # inet_diag_sockid: ports, addresses and the kernel's cookie
    port: int  # here
    far: bytes  # the other end's packed address …
    far_port: int  # … and its port
    inode: int
    waits: bool  # this end has answered all that it received


def opened(ports: Collection[int]) -> list[Socket]:
    """Return the open connections to some local ports; none where the kernel does not say."""
    found = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            for family in _FAMILIES:
                for data, at in _dump(netlink, family, _STATES, _WITH_INFO):
                    state, port, far_port, far, unread, inode = _ANSWER.unpack_from(
                        data, at + _ANSWER_AT
                    )
                    if int.from_bytes(port) in ports:
                        hung_up = state != _ESTABLISHED  # which counts as a byte received
                        answered = unread <= hung_up and _answered(data, at, hung_up=hung_up)
                        ends = int.from_bytes(port), _far_end(family, far), int.from_bytes(far_port)
                        identity = data[at + _ID_AT : at + _ID_END]
                        found.append(Socket(family, identity, *ends, inode, answered))
    except OSError as error:
        _say(error.errno or 0)
    return found


def destroy(sockets: Iterable[Socket]) -> int:
    """Destroy sockets, as if the connection had been lost; return how many that were."""
    ended = 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            for family, group in groupby(sorted(sockets), key=lambda one: one.family):
                found = [one.identity for one in group]
                for at in range(0, len(found), _TOGETHER):
                    ended += _destroy(netlink, family, found[at : at + _TOGETHER])
    except OSError as error:
        _say(error.errno or 0)
    return ended


def connections(ports: Iterable[int]) -> set[bytes]:
    """Return the connections to ports that a process has accepted, those of the last minute too.

    (TIME_WAIT, where the end that hung up first stays for 60 s: mostly the server's.) Each is named
    by its ports and addresses.

    Raises:
        OSError: the kernel does not tell.
    """
    wanted = {port.to_bytes(2) for port in ports}
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        for family in _FAMILIES:
            for data, at in _dump(netlink, family, _STATES | 1 << _TIME_WAIT):
                if data[at + _ID_AT : at + _ID_AT + 2] in wanted and (
                    data[at + _STATE_AT] == _TIME_WAIT or any(data[at + _INODE_AT : at + 88])
                ):
                    found.add(data[at + _ID_AT : at + _ENDS_END])
    return found


def listened() -> set[int]:
    """Return the ports at which somebody listens here.

    Raises:
        OSError: the kernel does not tell.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        return {
            int.from_bytes(data[at + _ID_AT : at + _ID_AT + 2])
            for family in _FAMILIES
            for data, at in _dump(netlink, family, 1 << _LISTEN)
        }


def _answered(data: bytes, at: int, *, hung_up: bool) -> bool:
    """Tell whether this end spoke last, or nothing was said to it.

    Times are in ticks of the kernel of up to 10 ms: where data went both ways within one, an
    acknowledgement that came after the latest data tells that there was an answer to acknowledge
    (but not of a far end that hung up: its end acknowledges too).
    """
    length = _HEADER.unpack_from(data, at)[0]
    end, at = at + length, at + _ATTRIBUTES_AT
    while at + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if kind == _INET_DIAG_INFO and size >= 4 + _INFO.size:
            unacknowledged, sent, received, acknowledged, total = _INFO.unpack_from(data, at + 4)
            later = not hung_up and not unacknowledged and acknowledged < received
            return total <= hung_up or sent < received or later
        at += max(4, (size + 3) & ~3)
    return False


def _dump(
    netlink: socket.socket, family: int, states: int, more: int = 0
) -> Iterator[tuple[bytes, int]]:
    """Yield each socket of a family in one of some states: a buffer, and where its message begins.

    Raises:
        OSError: the kernel does not tell.
    """
    asked = _ASKED.pack(family, socket.IPPROTO_TCP, more, 0, states, bytes(48))
    netlink.send(_HEADER.pack(16 + len(asked), _BY_FAMILY, _REQUEST | _DUMP, 0, 0) + asked)
    while True:
        data = netlink.recv(_PIECE)
        for at, kind in _messages(data):
            if kind in (_DONE, _ERROR):
                if number := _errno(data, at):
                    raise OSError(number, os.strerror(number))
                return
            yield data, at


def _far_end(family: int, far: bytes) -> bytes:
    """Return the packed address of a peer; in a dual-stack socket IPv4 is mapped into IPv6."""
    if family == socket.AF_INET:
        return far[:4]
    return unmapped(far)


def _destroy(netlink: socket.socket, family: int, identities: Sequence[bytes]) -> int:
    """Destroy sockets; return how many that were."""
    requests = []
    for identity in identities:
        asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES, identity)
        requests.append(_HEADER.pack(16 + len(asked), _DESTROY, _REQUEST | _ACK, 0, 0) + asked)
    netlink.send(b"".join(requests))
    ended = answered = 0
    while answered < len(requests):
        data = netlink.recv(_PIECE)
        for at, _kind in _messages(data):
            answered += 1
            number = _errno(data, at)
            if number == 0:
                ended += 1
            elif number != errno.ENOENT:  # that one has ended by itself
                _say(number)
    return ended


def _messages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each message begins, and its type."""
    at = 0
    while at + 16 <= len(data):
        length, kind = _HEADER.unpack_from(data, at)[:2]
        yield at, kind
        at += max(16, (length + 3) & ~3)


def _errno(data: bytes, at: int) -> int:
    """Return what an error or the end of a dump says; 0 is success."""
    return -int(struct.unpack_from("=i", data, at + 16)[0])


@cache
def _say(number: int) -> None:
    """Log why sessions are left to time out; once for each reason."""
    why = os.strerror(number)
    if number == errno.EOPNOTSUPP:
        why = "this kernel has no CONFIG_INET_DIAG_DESTROY"
    log.warning("sessions of banned clients are not ended but time out: %s", why)
