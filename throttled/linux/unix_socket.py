"""A UNIX socket at a path that one process has: stale sockets are removed, others stay.

Owns the socket and, until it is closed, the path.
"""

import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

from throttled.linux.claim import Claim


class BoundSocket:
    """A socket bound to a path, and the claim to it, until `close`.

    Args:
        path: where; what a killed process left there is removed.
        mode: of the file, from its first instant.

    Raises:
        FileExistsError: the path is no socket.
        OSError: EADDRINUSE: another process listens there; or it cannot be made.
    """

    def __init__(self, path: Path, mode: int) -> None:
        claim = Claim.acquire(path)
        if claim is None:
            raise OSError(errno.EADDRINUSE, "another program listens there")
        self._path, self._claim = path, claim
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_stale(path)
            # No chmod afterwards: it would follow a link that the directory's owner puts there in
            # between. The umask is that of all threads; files that they make now get no more.
            before = os.umask(0o777 & ~mode)
            try:
                self.socket.bind(str(path))
            finally:
                os.umask(before)
            self._inode = path.lstat().st_ino
        except BaseException:
            self.socket.close()
            claim.release()
            raise

    def present(self) -> bool:
        """Return whether the file is there and is ours."""
        try:
            return self._path.lstat().st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Remove the file, unless it is a successor's, and end the claim."""
        with suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        self._claim.release()


def answers(path: Path) -> bool:
    """Return whether a process listens on a socket."""
    return _reached(path, socket.SOCK_STREAM)


def is_bound(path: Path) -> bool:
    """Return whether a process has a stream socket open, without a connection that it would see.

    A socket of another type cannot be connected to it, and errors differ (EPROTOTYPE, unix(7)).
    """
    return _reached(path, socket.SOCK_DGRAM)


def credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid of the peer of a connection (SO_PEERCRED, unix(7))."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def _reached(path: Path, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except OSError:  # its backlog is full, it is not for us, or of another type
            return True
    return True


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket")
    except FileNotFoundError:
        return
    if answers(path):  # a daemon of before the claim, or another program
        raise OSError(errno.EADDRINUSE, "another program listens there")
    path.unlink()
