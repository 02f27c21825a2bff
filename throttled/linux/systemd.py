"""Notices to the service manager, systemd, and descriptors that it stores. Owns no state."""

import os
import socket
from contextlib import suppress

_FIRST = 3  # SD_LISTEN_FDS_START


def notify(state: str, *descriptors: int) -> None:
    """Notify systemd, if it started us (sd_notify(3)); otherwise nothing happens.

    Args:
        state: assignments, one a line: READY=1, STATUS=…, WATCHDOG=1, RELOADING=1.
        descriptors: sent with them.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            socket.send_fds(sock, [state.encode()], descriptors)
    except OSError:
        pass  # a service manager that went away, or want of sockets, is no reason to end protecting


def store(name: str, descriptor: int) -> None:
    """Have systemd hold a descriptor too, as long as the unit is not stopped.

    It passes it to the next process of the unit (`inherited`), whether this one is restarted or
    killed. FileDescriptorStoreMax= in the unit bounds how many.

    Args:
        name: no colon in it (sd_pid_notify_with_fds(3)).
        descriptor: what it is for is not polled: the kernel says EPOLLERR of objects of BPF.
    """
    notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", descriptor)


def unstore(name: str) -> None:
    """Have systemd close what it stores under a name."""
    notify(f"FDSTOREREMOVE=1\nFDNAME={name}")


def inherited() -> list[tuple[str, int]]:
    """Return names and descriptors that systemd stored for this process, the first time.

    They are the caller's to close; no child of this process gets them (sd_listen_fds(3)).
    """
    pid, _count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not names:
        return []
    found = [(name, _FIRST + at) for at, name in enumerate(names.split(":"))]
    for _name, descriptor in found:
        with suppress(OSError):  # it is not there
            os.set_inheritable(descriptor, False)
    return found
