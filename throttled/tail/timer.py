"""A descriptor that is readable again and again: timerfd_create(2), which Python 3.11 lacks."""

import os
from contextlib import suppress
from ctypes import CDLL, Structure, byref, c_long, get_errno
from time import CLOCK_MONOTONIC

from throttled.tail.failures import unreadable

_NONBLOCK = os.O_NONBLOCK
_CLOEXEC = os.O_CLOEXEC


class _Timerspec(Structure):
    _fields_ = (
        ("interval_seconds", c_long),
        ("interval_nanoseconds", c_long),
        ("seconds", c_long),
        ("nanoseconds", c_long),
    )


class Timer:
    """Ticks.

    Args:
        interval: seconds, below 1.

    Raises:
        SourceError: no more descriptors.
    """

    def __init__(self, interval: float) -> None:
        libc = CDLL(None, use_errno=True)
        self._fd: int = libc.timerfd_create(CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise unreadable("the journal", OSError(get_errno(), ""))
        nanoseconds = round(interval * 1e9)
        libc.timerfd_settime(self._fd, 0, byref(_Timerspec(0, nanoseconds, 0, nanoseconds)), None)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def clear(self) -> None:
        """Take the ticks so far."""
        with suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
