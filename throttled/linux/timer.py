"""A descriptor that is readable again and again: timerfd_create(2), which Python 3.11 lacks.

Owns the descriptor.
"""

import os
from contextlib import suppress
from ctypes import CDLL, Structure, byref, c_long, get_errno
from time import CLOCK_MONOTONIC


class _Timerspec(Structure):
    _fields_ = (
        ("interval_seconds", c_long),
        ("interval_nanoseconds", c_long),
        ("seconds", c_long),
        ("nanoseconds", c_long),
    )


class Timer:
    """Ticks, once an interval is set.

    Raises:
        OSError: no more descriptors.
    """

    def __init__(self) -> None:
        self.interval = 0.0
        self._libc = CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(get_errno(), os.strerror(get_errno()))

    def every(self, interval: float) -> None:
        """Tick so often from now on, in seconds below 1; nothing changes if it does so already."""
        if interval != self.interval:
            self.interval = interval
            nanoseconds = round(interval * 1e9)
            spec = _Timerspec(0, nanoseconds, 0, nanoseconds)
            self._libc.timerfd_settime(self._fd, 0, byref(spec), None)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def clear(self) -> None:
        """Take the ticks so far."""
        with suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
