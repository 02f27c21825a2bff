"""A real systemd-journald without a systemd, for a thread that has mounts of its own.

What that thread opens and what it starts sees the private journal, everybody else the host's.
`Journald` owns the process and the socket on which it says that it is ready.
"""

import os
import socket
import subprocess
from ctypes import CDLL, get_errno
from pathlib import Path

from lab.network.netns import DEADMAN

PROGRAM = "/lib/systemd/systemd-journald"
SOCKET = "/run/systemd/journal/dev-log"
_CLONE_NEWNS = 0x00020000  # linux/sched.h


class Journald:
    """A journald, to be started and stopped in a thread that called `private_mounts`."""

    def __init__(self, directory: Path) -> None:
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(DEADMAN)
        self.environment = {"NOTIFY_SOCKET": str(directory / "notify"), "PATH": os.environ["PATH"]}

    def start(self, *settings: str) -> None:
        """Start it and wait until it is ready."""
        lines = ["[Journal]", "Storage=volatile", "ReadKMsg=no", "Audit=no", *settings]
        Path("/etc/systemd/journald.conf").write_text("\n".join(lines))
        self.process = subprocess.Popen(
            [PROGRAM], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while b"READY=1" not in self.notify.recv(4096):
            pass

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(DEADMAN)

    def rotate(self) -> None:
        """Let it begin new files."""
        subprocess.run(["journalctl", "--rotate"], check=True, capture_output=True)


def private_mounts() -> None:
    """Give the calling thread its own mounts, with nothing of the host's journal."""
    libc = CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for directory in ("/run/log", "/run/systemd", "/etc/systemd", "/var/log"):
        Path(directory).mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    Path("/run/systemd/journal").mkdir()
