"""Listeners in a control group of their own, as Postfix's are, in the hands of a test."""

import os
import socket
from pathlib import Path

from lab.network.netns import Namespace


def listen(
    server: Namespace, group: Path, address: str, port: int, backlog: int = 512
) -> socket.socket:
    """Return a TCP listener that a process in a control group made.

    What it accepts is in the same group. The process has ended; the group can be removed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        try:
            group.joinpath("cgroup.procs").write_text(str(os.getpid()))
            with server.listen(address, port, backlog) as made:
                socket.send_fds(theirs, [b"+"], [made.fileno()])
        finally:
            os._exit(0)
    with ours, theirs:
        theirs.close()
        _data, descriptors, _flags, _address = socket.recv_fds(ours, 1, 1)
        os.waitpid(pid, 0)
    if not descriptors:
        raise RuntimeError(f"no listener at {address} port {port}")
    return socket.socket(fileno=descriptors[0])
