"""Tells when somebody else changed or removed our table.

The kernel announces every transaction, ours too: the number of a message's port says whose socket
sent it, and those of this process are not foreign. A filter in the kernel keeps our own batches,
which would fill the socket, from coming up at all. What expires is not announced.

Owns a netlink socket, in the network namespace in which it was made. No capability is needed.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from pathlib import Path

from throttled.enforce.nftables import messages
from throttled.enforce.nftables.ruleset import TABLE
from throttled.errors import BackendError

# linux/netlink.h, linux/netfilter/nfnetlink.h and asm-generic/socket.h
_NETLINK_NETFILTER, _GROUP_NFTABLES = 12, 7
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_SO_ATTACH_FILTER = 26
_PIECE = 1 << 16

# Classic BPF (linux/bpf_common.h): load a word, compare, return.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_PORT_AT = 12  # nlmsg_pid, in the header of the first message; all of a transaction have the same


class Watch:
    """A descriptor that becomes readable, and `drain` that says whether it means anything."""

    def __init__(self) -> None:
        """Subscribe; open it after the backend has set its table up.

        Raises:
            BackendError: the kernel has no nf_tables.
        """
        self._own: frozenset[int] = frozenset()
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            self._filter()
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)
        except OSError as error:
            raise BackendError(f"nftables cannot be watched: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read what was announced; tell whether somebody else touched our table.

        Also true when announcements were lost (ENOBUFS), as then nobody knows.
        """
        foreign = False
        while True:
            try:
                data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return foreign
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                foreign = True
                continue
            ports = {each.port for each in messages.messages(data) if _is_ours(each)}
            if not ports <= self._own:
                self._filter()  # libnftables may have opened a socket since
            foreign |= not ports <= self._own

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._socket.close()

    def _filter(self) -> None:
        """Find our own sockets, and let the kernel leave out what they cause."""
        self._own = _own_ports()
        # The word is loaded as big-endian, whatever it is; so the ports are turned round too.
        ports = [int.from_bytes(struct.pack("=I", port)) for port in sorted(self._own)[:200]]
        steps = [(_LOAD, 0, 0, _PORT_AT)]
        steps += [(_EQUAL, len(ports) - at, 0, port) for at, port in enumerate(ports)]
        steps += [(_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)]
        program = b"".join(struct.pack("=HBBI", *step) for step in steps)
        memory = ctypes.create_string_buffer(program, len(program))
        described = struct.pack("@HP", len(steps), ctypes.addressof(memory))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _is_ours(message: messages.Message) -> bool:
    return messages.table_of(message) == TABLE


def _own_ports() -> frozenset[int]:
    """Return the ports of all netfilter sockets of this process, libnftables' too."""
    found: set[int] = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now
            if str(entry.readlink()).startswith("socket:"):
                found |= _ports(int(entry.name))
    return frozenset(found)


def _ports(descriptor: int) -> set[int]:
    with socket.socket(fileno=os.dup(descriptor)) as each:
        if each.family == socket.AF_NETLINK and each.proto == _NETLINK_NETFILTER:
            return {each.getsockname()[0]}
    return set()
