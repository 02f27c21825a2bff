"""Ends the open SMTP sessions of banned subjects; tells of connections and of who listens.

Dropping their packets is not enough: the server's side stays ESTABLISHED and holds an smtpd until
`smtpd_timeout`, 300 seconds. As `ss -K` does it: asks inet_diag for the open sockets, once a call
and IP version, and destroys those whose far end is banned (linux/inet_diag.h, linux/sock_diag.h).
Costs O(open sockets), whatever the number of subjects. Needs CAP_NET_ADMIN and a kernel with
CONFIG_INET_DIAG_DESTROY. Where that fails the sessions time out by themselves: it is logged, once
for each reason, and is no error.

Sees the sockets of its own network namespace, by their local port. A look at all of them took
0.4 ms with few. Owns nothing.
"""

import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from throttled import address
from throttled.model import Scope

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
#: nlmsghdr and inet_diag_msg up to the end of its id: of that the local port and the far address.
_ANSWER = struct.Struct("=16x4x2s2x16x16s12x")
_ID_AT, _ID_END = 20, 68
_STATE_AT, _ENDS_END, _INODE_AT = 17, 56, 84
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MAPPED = bytes(10) + b"\xff\xff"

#: What is banned at one port: packed subjects, by their size in bytes and their prefix length.
Banned = dict[tuple[int, int], set[bytes]]


def end_sessions(
    subjects: Iterable[tuple[str, Scope]],
    ports: Mapping[Scope, Sequence[int]],
    spared: Callable[[str], object] = lambda _address: False,
) -> int:
    """End the open sessions of subjects; return how many that were.

    Args:
        subjects: canonical addresses and networks, each with the scope in which it is banned.
        ports: the local ports of each scope.
        spared: tells of an address inside a banned network whether it is protected.
    """
    banned = _banned(subjects, ports)
    if not banned:
        return 0
    ended = 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            for family in _FAMILIES:
                found = [
                    identity
                    for identity, far in _sessions(netlink, family, banned)
                    if not spared(address.unpack(far))
                ]
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


def _banned(
    subjects: Iterable[tuple[str, Scope]], ports: Mapping[Scope, Sequence[int]]
) -> dict[bytes, Banned]:
    """Return what is banned at each port, the port as inet_diag writes it."""
    scopes: dict[Scope, Banned] = {}
    for subject, scope in subjects:
        packed, prefix = address.parse(subject)
        scopes.setdefault(scope, {}).setdefault((len(packed), prefix), set()).add(packed)
    return {
        port.to_bytes(2): banned
        for scope, banned in scopes.items()
        for port in ports.get(scope, ())
    }


def _sessions(
    netlink: socket.socket, family: int, ports: Mapping[bytes, Banned]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield identity and far end of each open socket of a family whose far end is banned."""
    for data, at in _dump(netlink, family, _STATES):
        port, far = _ANSWER.unpack_from(data, at)
        banned = ports.get(port)
        end = _far_end(family, far)
        if banned and _is_banned(banned, end):
            yield data[at + _ID_AT : at + _ID_END], end


def _dump(netlink: socket.socket, family: int, states: int) -> Iterator[tuple[bytes, int]]:
    """Yield each socket of a family in one of some states: a buffer, and where its message begins.

    Raises:
        OSError: the kernel does not tell.
    """
    asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, states, bytes(48))
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
    return far[12:] if far.startswith(_MAPPED) else far


def _is_banned(banned: Banned, far: bytes) -> bool:
    return any(
        size == len(far) and address.mask(far, prefix) in subjects
        for (size, prefix), subjects in banned.items()
    )


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
