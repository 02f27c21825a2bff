"""Notices to the service manager, systemd. Owns no state."""

import os
import socket


def notify(state: str) -> None:
    """Notify systemd, if it started us (sd_notify(3)); otherwise nothing happens.

    Args:
        state: assignments, one a line: READY=1, STATUS=…, WATCHDOG=1, RELOADING=1.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.send(state.encode())
    except OSError:
        pass  # a service manager that went away, or want of sockets, is no reason to end protecting
