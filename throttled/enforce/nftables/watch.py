"""Changes of other programs to our table: which elements, or that rules changed too.

The kernel announces every transaction, also those of this process, which are recognised by the
port number of their socket (nlmsg_pid) and skipped. A filter in the kernel drops those of our
batches, which would fill the socket. Expired elements are not announced.

Owns a netlink socket, in the network namespace in which it was made. No capability is needed.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from pathlib import Path

from throttled.enforce.backend import Drift
from throttled.enforce.nftables import messages
from throttled.enforce.nftables.ruleset import TABLE
from throttled.enforce.sets import SetId, parse_name
from throttled.errors import BackendError
from throttled.linux.netlink import Message
from throttled.linux.netlink import messages as messages_in
from throttled.linux.netlink_socket import NETFILTER, RCVBUFFORCE, SOL_NETLINK
from throttled.model import Entry

# linux/netlink.h, linux/netfilter/nfnetlink.h and asm-generic/socket.h
_GROUP_NFTABLES, _NETLINK_ADD_MEMBERSHIP, _SO_ATTACH_FILTER = 7, 1, 26
_PIECE = 1 << 16
#: Another program may load a large list into its own table. An upper bound; it is not reserved.
_RECEIVE = 32 << 20
#: Datagrams read at a time.
_MOST_READS = 5_000
#: Changed elements returned at a time; with more, `lost` is set and the rest is discarded.
_MOST_ENTRIES = 1_000

# Classic BPF (linux/bpf_common.h): load a word, compare, return.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_PORT_AT = 12  # nlmsg_pid, in the header of the first message; all of a transaction have the same


class TableWatch:
    """A descriptor that becomes readable at any change, and `drain`, which returns what differs."""

    def __init__(self) -> None:
        """Subscribe; open it after the backend has set its table up.

        Raises:
            BackendError: the kernel has no nf_tables.
        """
        self._own: frozenset[int] = frozenset()
        self._reader = messages.ElementReader()
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
            self._socket.bind((0, 0))
            self._filter()
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, _RECEIVE)
            self._socket.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)
        except OSError as error:
            raise BackendError(f"nftables cannot be watched: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> Drift:
        """Read the pending notifications; return the drift of our table.

        `lost` is set when announcements were lost (ENOBUFS) or are very many.
        """
        entries: dict[Entry, None] = {}
        rules = lost = False
        for _ in range(_MOST_READS):
            try:
                data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                rules = lost = True
                continue
            if lost and rules:
                continue
            for message in self._by_others(data):
                of = parse_name(messages.set_name(message))
                if of and messages.is_of_elements(message):
                    entries |= dict.fromkeys(self._entries(of, message))
                    if len(entries) > _MOST_ENTRIES:
                        rules = lost = True
                else:
                    rules = True
                    lost |= of is not None or messages.is_of_table(message)
        return Drift((), rules, lost) if lost else Drift(tuple(entries), rules, lost)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._socket.close()

    def _by_others(self, data: bytes) -> list[Message]:
        """Return the messages about our table that are another program's doing."""
        found = [each for each in messages_in(data) if messages.table_of(each) == TABLE]
        if any(each.port not in self._own for each in found):
            self._filter()  # libnftables may have opened a socket since
        return [each for each in found if each.port not in self._own]

    def _entries(self, of: SetId, message: Message) -> list[Entry]:
        """Return the elements of a set that a message names."""
        size = 4 if of.version == 4 else 16
        return [
            Entry(of.subject(each.key), of.scope, of.action, 0.0)
            for each in self._reader.elements(message)
            if len(each.key) == size
        ]

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
        if each.family == socket.AF_NETLINK and each.proto == NETFILTER:
            return {each.getsockname()[0]}
    return set()
