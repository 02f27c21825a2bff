"""Who started a process, as /proc says (proc(5)). Owns no state."""

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process."""

    pid: int
    name: str  # of its program, at most 15 bytes
    uid: int  # effective


def parent(pid: int) -> Process | None:
    """Return what started a process: init(8) where that has ended.

    None: /proc does not say, as the process has ended or a sandbox hides it.
    """
    try:
        after = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]  # its name
        number = int(after.split()[1])
        starter = Path(f"/proc/{number}")
        name = starter.joinpath("comm").read_text("latin-1").rstrip("\n")
        return Process(number, name, starter.stat().st_uid)
    except (OSError, ValueError, IndexError):
        return None
