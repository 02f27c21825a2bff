"""Detects changes of tables and sets by other programs; by polling, as the kernel announces none.

Four times a second, by a timer of the kernel that is waited on like a socket. A poll costs some
0.1 ms, however many elements there are. It reads, of our tables of each IP version, the number of
rules, their size and where the chains begin (IPT_SO_GET_INFO of
linux/netfilter_ipv4/ip_tables.h, the same for IPv6), and the number of elements of the permanent
sets (`ipset flush` empties these too). Only if these changed are the rules listed. A change that
leaves them alike, one rule replaced by another of the same size, is not seen here.

Owns a timer, and a socket for each IP version, in the network namespace in which it was made.
"""

import ctypes
import socket
from collections.abc import Callable, Iterable

from throttled.enforce.backend import Drift
from throttled.errors import BackendError
from throttled.linux.timer import Timer

_EVERY = 0.25  # seconds
#: Address family, level and option (IPT_SO_GET_INFO, IP6T_SO_GET_INFO) of each IP version.
_ASKED = {4: (socket.AF_INET, 0, 64), 6: (socket.AF_INET6, 41, 64)}
#: struct ipt_getinfo: the table's name (32 bytes), valid hooks, where each of five hooks begins and
#: ends, how many entries, how many bytes.
_INFO = 84

_libc = ctypes.CDLL(None, use_errno=True)


class Outlines:
    """The outlines of tables."""

    def __init__(self, versions: Iterable[int]) -> None:
        """Open the sockets.

        Raises:
            BackendError: not permitted.
        """
        try:
            self._sockets = {
                version: socket.socket(_ASKED[version][0], socket.SOCK_RAW, socket.IPPROTO_RAW)
                for version in versions
            }
        except OSError as error:
            raise BackendError(
                f"the tables cannot be watched: {error.strerror}",
                "run as root or with CAP_NET_ADMIN and CAP_NET_RAW",
            ) from error

    def read(self, names: Iterable[str]) -> list[bytes]:
        """Return the kernel's information on each table, without rules; empty if it has none."""
        return [self._outline(version, name) for version in self._sockets for name in names]

    def __del__(self) -> None:
        for each in getattr(self, "_sockets", {}).values():
            each.close()

    def _outline(self, version: int, name: str) -> bytes:
        _family, level, option = _ASKED[version]
        data = ctypes.create_string_buffer(name.encode(), _INFO)
        size = ctypes.c_uint(_INFO)
        fd = self._sockets[version].fileno()
        failed = _libc.getsockopt(fd, level, option, data, ctypes.byref(size))
        return b"" if failed else data.raw


class TablesWatch(Timer):
    """A timer, and `drain`, which polls."""

    def __init__(self, changed: Callable[[], bool]) -> None:
        """Begin to poll.

        Args:
            changed: returns whether another program changed our rules or sets since its last call.

        Raises:
            BackendError: the kernel gives no timer.
        """
        try:
            super().__init__()
        except OSError as error:
            raise BackendError(f"the tables cannot be watched: {error.strerror}") from error
        self._changed = changed
        self.every(_EVERY)

    def drain(self) -> Drift:
        """Poll; after any change everything may differ: then `lost` is set."""
        self.clear()
        changed = self._changed()
        return Drift(rules=changed, lost=changed)
