"""Counts completed handshakes in the kernel, by client and scope.

Attached to the root of the control groups as far as this process sees them, counting in its network
namespace alone. Nothing is pinned: with the `Sensor`, or the process that owns it, the program is
gone. Between two calls of `drain` at most `SOURCES` clients are counted; more are `missed`.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from throttled.bpf.libbpf import ATTACH_CGROUP_SOCK_OPS, OBJECTS, Map, Object
from throttled.errors import BackendError
from throttled.linux.mounts import mounted
from throttled.model import Scope
from throttled.sources import sensor_maps

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h; Linux 5.14
_ZERO = bytes(4)

#: The hint where these capabilities are missing.
_RIGHTS = "run as root or with CAP_BPF and CAP_NET_ADMIN"


class Sensor:
    """The program, attached, and its maps."""

    def __init__(self, cgroup: Path | None = None) -> None:
        """Load and attach it; it counts nothing before `watch`.

        Args:
            cgroup: the control group whose processes' connections are seen; None is the root.

        Raises:
            BackendError: that does not work here; says what is missing.
        """
        place = cgroup or mounted("cgroup2")
        if place is None:
            raise BackendError(
                "no control groups of version 2 are mounted",
                "mount -t cgroup2 none /sys/fs/cgroup",
            )
        loaded = Object(OBJECTS / "sensor.o")
        loaded.load()
        #: Handshakes that found no room, since the start.
        self.missed = 0
        try:
            self._settings: Map = loaded.map("settings")
            self._counts: Map = loaded.map("counts")
            self._missed: Map = loaded.map("missed")
            self._netns = _netns()
            at = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._link = loaded.program("handshake").attach(at, ATTACH_CGROUP_SOCK_OPS)
            finally:
                os.close(at)
        except OSError as error:
            raise _refused(error, f" to attach it to {place}") from error

    def watch(self, ports: Mapping[Scope, Iterable[int]]) -> None:
        """Count at these local ports, and at no others.

        Raises:
            BackendError: the kernel refuses.
        """
        try:
            self._settings.update(_ZERO, sensor_maps.watched(self._netns, ports))
        except OSError as error:
            raise _refused(error) from error

    def drain(self) -> dict[tuple[str, Scope], int]:
        """Return how many handshakes each client completed since the last call.

        Raises:
            BackendError: it no longer counts: another program detached it, or the kernel refuses.
        """
        try:
            if not self._link.attached:
                raise BackendError("the program was detached", "see: bpftool cgroup tree")
            keys, values = self._counts.drain()
            if len(values) // 8 >= sensor_maps.SOURCES:
                self.missed = self._missed.total(0)
        except OSError as error:
            raise _refused(error) from error
        found = {}
        size = sensor_maps.SOURCE.size
        for n in range(len(values) // 8):
            count = int.from_bytes(values[n * 8 : n * 8 + 8], sys.byteorder)
            found[sensor_maps.source(keys[n * size : (n + 1) * size])] = count
        return found


def _refused(error: OSError, where: str = "") -> BackendError:
    """Say what a refusal of the kernel means to an operator."""
    denied = error.errno in (errno.EPERM, errno.EACCES)
    hint = _RIGHTS if denied else "see: bpftool cgroup tree"
    return BackendError(f"the kernel refused{where}: {error.strerror}", hint)


def _netns() -> int:
    """Return the cookie of this process's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        cookie = ours.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(cookie, sys.byteorder)
