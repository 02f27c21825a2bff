"""libbpf's functions and structures, as much of them as we need, through ctypes.

Functions: bpf(2), bpf-helpers(7), bpf/bpf.h and bpf/libbpf.h of libbpf 1.0 and later; structures:
linux/bpf.h. Owns what libbpf printed last, at most 20 messages, for errors.
"""

import ctypes
import errno
import os
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

from throttled.errors import BackendError

_LIBRARY = "libbpf.so.1"

#: Hint for an operator without the rights.
RIGHTS = (
    "run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    " (throttled.service: install its drop-in xdp.conf)"
)

u32, u64, _int, _pointer, _text = (
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_char_p,
)


class _Options(ctypes.Structure):
    """Options know their own size, which is how libbpf tells versions of them apart."""

    sz: int

    def __init__(self, **values: Any) -> None:
        super().__init__(sz=ctypes.sizeof(self), **values)


class LinkCreate(_Options):
    """struct bpf_link_create_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", u32),
        ("iter_info", _pointer),
        *((name, u32) for name in ("iter_info_len", "target_btf_id")),
    )


class MapCreate(_Options):
    """struct bpf_map_create_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        *((f"btf_{name}", u32) for name in ("fd", "key", "value", "vmlinux_value")),
        *((name, u32) for name in ("inner_map_fd", "map_flags")),
        ("map_extra", u64),
        *((name, u32) for name in ("numa_node", "map_ifindex")),
    )


class MapInfo(ctypes.Structure):
    """The beginning of struct bpf_map_info."""

    _fields_ = tuple(
        (name, u32) for name in ("type", "id", "key_size", "value_size", "max_entries")
    )


class ProgramInfo(ctypes.Structure):
    """The beginning of struct bpf_prog_info."""

    _fields_ = (("unused", ctypes.c_char * 64), ("name", ctypes.c_char * 16))


class LinkInfo(ctypes.Structure):
    """The beginning of struct bpf_link_info.

    `ifindex` is that of an XDP link; of a cgroup's link it is the first half of its id.
    """

    _fields_ = tuple((name, u32) for name in ("type", "id", "prog_id", "unused", "ifindex"))


#: What libbpf said last. It writes one line, or one verifier's log, at a time.
said: deque[str] = deque(maxlen=20)
_PRINT = ctypes.CFUNCTYPE(_int, _int, _text, _pointer)


def _listen(level: int, form: bytes, arguments: int) -> int:
    # A va_list is passed as a pointer on x86-64 and AArch64, and so can be passed on as one.
    if level > 1:  # LIBBPF_DEBUG
        return 0
    text = ctypes.create_string_buffer(1 << 16)
    length = int(_libc.vsnprintf(text, len(text), form, _pointer(arguments)))
    said.extend(text.value.decode(errors="replace").splitlines())
    return length


_libc = ctypes.CDLL(None)
_listener = _PRINT(_listen)


def refusal(what: str, number: int) -> BackendError:
    """Return the error for what the kernel refused, with what libbpf said last as hint."""
    hint = "\n".join(said)[-2000:] or "needs Linux 5.18 or later"
    # Without CAP_PERFMON the verifier forbids much, and which of it first differs by kernel.
    if number == errno.EPERM or (number == errno.EACCES and not _may_read_kernel()):
        hint = RIGHTS
    return BackendError(f"{what}: {os.strerror(number)}", hint)


def _may_read_kernel() -> bool:
    """Return whether this thread has CAP_PERFMON, or CAP_SYS_ADMIN, which includes it."""
    status = Path("/proc/thread-self/status").read_text()
    (effective,) = (line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & (1 << 38 | 1 << 21))


def checked(result: int) -> int:
    """Return what a call of libbpf gave, unless that is an error.

    Raises:
        OSError: it is.
    """
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


@cache
def library() -> ctypes.CDLL:
    """Load libbpf.

    Raises:
        BackendError: it is not installed.
    """
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise BackendError(
            f"{_LIBRARY} cannot be loaded: {error}",
            "install libbpf1, or do without what needs it: another firewall.backend, no sensor",
        ) from error
    several = ctypes.POINTER(u32)
    for name, result, arguments in (
        ("libbpf_set_print", _pointer, (_PRINT,)),
        ("libbpf_num_possible_cpus", _int, ()),
        ("bpf_object__open_file", _pointer, (_text, _pointer)),
        ("bpf_object__load", _int, (_pointer,)),
        ("bpf_object__close", None, (_pointer,)),
        ("bpf_object__find_map_by_name", _pointer, (_pointer, _text)),
        ("bpf_object__find_program_by_name", _pointer, (_pointer, _text)),
        ("bpf_program__fd", _int, (_pointer,)),
        ("bpf_map__fd", _int, (_pointer,)),
        ("bpf_map__reuse_fd", _int, (_pointer, _int)),
        ("bpf_obj_get", _int, (_text,)),
        ("bpf_obj_pin", _int, (_int, _text)),
        ("bpf_obj_get_info_by_fd", _int, (_int, _pointer, several)),
        ("bpf_map_create", _int, (_int, _text, u32, u32, u32, _pointer)),
        ("bpf_map_lookup_elem", _int, (_int, _pointer, _pointer)),
        ("bpf_map_update_elem", _int, (_int, _pointer, _pointer, u64)),
        ("bpf_map_delete_elem", _int, (_int, _pointer)),
        ("bpf_map_get_next_key", _int, (_int, _pointer, _pointer)),
        ("bpf_map_lookup_batch", _int, (_int, *(_pointer,) * 4, several, _pointer)),
        ("bpf_map_lookup_and_delete_batch", _int, (_int, *(_pointer,) * 4, several, _pointer)),
        ("bpf_map_update_batch", _int, (_int, _pointer, _pointer, several, _pointer)),
        ("bpf_prog_get_fd_by_id", _int, (u32,)),
        ("bpf_link_create", _int, (_int, _int, _int, _pointer)),
        ("bpf_link_update", _int, (_int, _int, _pointer)),
        ("bpf_link_detach", _int, (_int,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_listener)
    return library
