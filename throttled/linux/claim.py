"""The exclusive claim to a UNIX socket's path, so that two daemons never share it.

A lock (flock(2)) on a file beside the socket: nobody can come between the moments at which a
socket is found stale, removed, bound and listened on. The kernel ends the claim with the process.

Owns the lock file's descriptor.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Claim:
    """A claim that is held until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, socket: Path) -> Self | None:
        """Claim a socket's path; None where another process has it.

        Raises:
            OSError: the file beside the socket cannot be made.
        """
        path = beside(socket)
        while True:
            descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
            if not _locked(descriptor):
                os.close(descriptor)
                return None
            if _is(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)  # released, and so removed, between our two steps

    def release(self) -> None:
        """End the claim and remove its file."""
        with contextlib.suppress(OSError):
            if _is(self._descriptor, self._path):  # not a successor's
                self._path.unlink()
        os.close(self._descriptor)


def in_use(socket: Path) -> bool:
    """Return whether a process has claimed a socket's path."""
    try:
        descriptor = os.open(beside(socket), _FLAGS)
    except OSError:
        return False
    try:
        return not _locked(descriptor)
    finally:
        os.close(descriptor)


def beside(socket: Path) -> Path:
    """Return the file that is locked for a socket."""
    return Path(f"{socket}.lock")


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
