"""The two clocks and the service manager: what the daemon needs of the system it runs on.

Owns no state.
"""

import os
import socket
import time

from throttled.pipeline import Moment

#: The boot clock is counted from so long before the boot, so that lines from before it have their
#: place on it too: meters know no negative time. More than `pipeline` believes of a line's age.
_BEFORE_BOOT = 400 * 86400.0


def now() -> Moment:
    """Return both clocks. Windows run on the boot clock, which no administrator sets."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME) + _BEFORE_BOOT)


def slept() -> float:
    """Return for how many seconds this machine was suspended since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3)); otherwise nothing happens.

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
