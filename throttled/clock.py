"""The two clocks: the wall clock of decisions, and the boot clock of windows. Owns no state."""

import time
from pathlib import Path

from msgspec import Struct

#: The boot clock is counted from so long before the boot, so that lines from before it have their
#: place on it too: meters know no negative time. More than `pipeline` believes of a line's age.
_BEFORE_BOOT = 400 * 86400.0


class Moment(Struct, frozen=True):
    """Now, on both clocks."""

    wall: float  # seconds since the epoch
    boot: float  # the boot clock, see `now`; in a replay the same as `wall`


def now() -> Moment:
    """Return both clocks. Windows run on the boot clock, which no administrator sets."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME) + _BEFORE_BOOT)


def booted() -> str:
    """Return what names this boot of the machine, of which the boot clock is; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"  # a container may have its own
    except (OSError, ValueError):
        return ""


def slept() -> float:
    """Return for how many seconds this machine was suspended since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
