"""Which process of this host is at the other end of a connection? Owns no state."""

import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")


class Process(NamedTuple):
    """A process; its number alone may be used again."""

    pid: int
    started: int  # clock ticks after boot


def children(pid: int) -> frozenset[Process]:
    """Return the processes that one started and that still run."""
    return frozenset(
        Process(child, started) for child, parent, started in _processes() if parent == pid
    )


def answered(connection: socket.socket, by: Collection[Process]) -> bool:
    """Return whether one of some processes has the other end; False where that is not known.

    Args:
        connection: established, to this host.
        by: the processes.
    """
    inode = _inode(connection) if by else ""
    return bool(inode) and any(f"socket:[{inode}]" in _open(process) for process in by)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield number, parent and start of each process (proc(5), stat)."""
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                yield int(place.name), *_stat(int(place.name))


def _stat(pid: int) -> tuple[int, int]:
    """Return parent and start; the name before them may contain anything.

    Raises:
        OSError: it has ended.
    """
    fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    return int(fields[1]), int(fields[19])


def _inode(connection: socket.socket) -> str:
    """Return the inode of the socket at the other end; "" where there is none here."""
    ours, theirs = connection.getsockname()[1], connection.getpeername()[1]
    ends = f":{theirs:04X}", f":{ours:04X}"
    for table in _TABLES:
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                    return fields[9]
    return ""


def _open(process: Process) -> set[str]:
    """Return what a process has open; nothing once it has ended."""
    found: set[str] = set()
    with suppress(OSError):
        if _stat(process.pid)[1] != process.started:
            return found
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found
