"""The capabilities that systemd leaves the daemon, so that a check tries what the daemon will do.

Root's shell has all of them, and the kernel accepts more from it: without CAP_PERFMON some kernels
refuse a BPF program that they load for others.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_UNIT = "throttled.service"
_PATIENCE = 5.0  # seconds
#: linux/capability.h: _LINUX_CAPABILITY_VERSION_3
_VERSION = 0x20080522
#: linux/capability.h, in the order of their numbers.
_NAMES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid"),
    *("setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw"),
    *("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct"),
    *("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod"),
    *("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog"),
    *("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)


def capabilities() -> int | None:
    """Return those of the installed unit, as a mask; None where there is none, or no systemd."""
    asked = ("systemctl", "show", "-p", "LoadState", "-p", "CapabilityBoundingSet", _UNIT)
    try:
        properties = subprocess.run(
            asked, capture_output=True, text=True, check=True, timeout=_PATIENCE
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    values = dict(line.partition("=")[::2] for line in properties.splitlines())
    if values.get("LoadState") != "loaded":
        return None
    names = values.get("CapabilityBoundingSet", "").split()
    return sum(1 << n for n, name in enumerate(_NAMES) if f"cap_{name}" in names)


@contextmanager
def limited(mask: int | None) -> Iterator[None]:
    """Do without all other capabilities meanwhile, in this thread and those that it starts.

    Args:
        mask: those that stay; None: all.

    Raises:
        OSError: the kernel refused.
    """
    if mask is None:
        yield
        return
    before = _effective()
    _set_effective(before & mask)
    try:
        yield
    finally:
        _set_effective(before)


_libc = ctypes.CDLL(None, use_errno=True)
_Words = ctypes.c_uint32 * 6  # effective, permitted, inheritable: their lower halves, the upper


def _effective() -> int:
    words = _words()
    return int(words[0]) | int(words[3]) << 32


def _set_effective(mask: int) -> None:
    words = _words()
    words[0], words[3] = mask & 0xFFFFFFFF, mask >> 32
    _checked(_libc.capset(_header(), words))


def _words() -> "ctypes.Array[ctypes.c_uint32]":
    words = _Words()
    _checked(_libc.capget(_header(), words))
    return words


def _header() -> "ctypes.Array[ctypes.c_uint32]":
    return (ctypes.c_uint32 * 2)(_VERSION, 0)  # 0: the calling thread


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
