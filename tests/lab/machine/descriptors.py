"""The descriptors that systemd stores for a unit, in the hands of a test: sd_notify(3), FDSTORE=1.

A stand-in for the store alone; tests/system/test_package.py has the real one.
"""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from throttled.linux import systemd

#: From here on descriptors are free in the process of a test.
_FREE = 600


class DescriptorStore:
    """A notify socket, and what was sent to be stored; all is closed at the end of the block.

    This process, and those that it starts, notify it.
    """

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = directory / "notify.sock"
        self.stored: dict[str, int] = {}
        self._patch = patch
        patch.setenv("NOTIFY_SOCKET", str(self.path))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
        self._socket.close()

    def read(self) -> dict[str, int]:
        """Take what was sent, and return what is stored: descriptors by name."""
        with suppress(BlockingIOError):
            while True:
                message, sent, _flags, _address = socket.recv_fds(self._socket, 4096, 1)
                about = dict(line.split("=", 1) for line in message.decode().splitlines())
                if "FDSTORE" in about:
                    assert about["FDPOLL"] == "0"
                    (self.stored[about["FDNAME"]],) = sent
                elif "FDSTOREREMOVE" in about and about["FDNAME"] in self.stored:
                    os.close(self.stored.pop(about["FDNAME"]))
        return self.stored

    def close(self) -> None:
        """Close what is stored, as when the unit is stopped."""
        for descriptor in self.read().values():
            os.close(descriptor)
        self.stored = {}

    def passed(self) -> None:
        """Have this process inherit copies of what is stored, as the unit's next one does."""
        stored = self.read()
        for at, descriptor in enumerate(stored.values()):
            made = fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FREE + at)
            assert made == _FREE + at
        self._patch.setattr(systemd, "_FIRST", _FREE)
        self._patch.setenv("LISTEN_PID", str(os.getpid()))
        self._patch.setenv("LISTEN_FDS", str(len(stored)))
        self._patch.setenv("LISTEN_FDNAMES", ":".join(stored))
