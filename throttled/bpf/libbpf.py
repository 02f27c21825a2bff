"""libbpf, as much of it as we need: objects, programs, maps, links. Through ctypes.

Each `Map`, `Program` and `Link` owns a file descriptor and closes it with itself; what is pinned or
attached lives on in the kernel. Every refusal is an `OSError` with the kernel's errno, or where
libbpf says more than that, a `BackendError` with the end of what it says as hint. Keys and values
are bytes as they are in the kernel. Functions: bpf(2), bpf-helpers(7), bpf/bpf.h and bpf/libbpf.h
of libbpf 1.0 and later.
"""

import ctypes
import errno
import os
import sys
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

from throttled.errors import BackendError

_LIBRARY = "libbpf.so.1"
#: Where `hatch_build.py` puts what it compiles.
OBJECTS = Path(__file__).parent

#: What an operator is told who lacks them.
RIGHTS = (
    "run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    " (throttled.service: install its drop-in xdp.conf)"
)

# linux/bpf.h: enum bpf_map_type, bpf_attach_type, flags; linux/if_link.h: XDP_FLAGS_*
_HASH, _NO_PREALLOC = 1, 1
ATTACH_CGROUP_SOCK_OPS, ATTACH_XDP = 3, 37
XDP_GENERIC, XDP_NATIVE = 2, 4
_LIVE_FRAMES = 2

_PIECE = 4096  # elements of a map read at a time
_INFO = 256  # bytes: more than any bpf_*_info has; the kernel fills in what it knows

_u32, _u64, _int, _pointer, _text = (
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


class _TestRun(_Options):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", _pointer),
        ("data_out", _pointer),
        ("data_size_in", _u32),
        ("data_size_out", _u32),
        ("ctx_in", _pointer),
        ("ctx_out", _pointer),
        ("ctx_size_in", _u32),
        ("ctx_size_out", _u32),
        ("retval", _u32),
        ("repeat", _int),
        ("duration", _u32),
        ("flags", _u32),
        ("cpu", _u32),
        ("batch_size", _u32),
    )


class _LinkCreate(_Options):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", _u32),
        ("iter_info", _pointer),
        ("iter_info_len", _u32),
        ("target_btf_id", _u32),
    )


class _MapCreate(_Options):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", _u32),
        ("btf_key_type_id", _u32),
        ("btf_value_type_id", _u32),
        ("btf_vmlinux_value_type_id", _u32),
        ("inner_map_fd", _u32),
        ("map_flags", _u32),
        ("map_extra", _u64),
        ("numa_node", _u32),
        ("map_ifindex", _u32),
    )


class _MapInfo(ctypes.Structure):
    _fields_ = (
        ("type", _u32),
        ("id", _u32),
        ("key_size", _u32),
        ("value_size", _u32),
        ("max_entries", _u32),
        ("map_flags", _u32),
        ("name", ctypes.c_char * 16),
    )


class _ProgramInfo(ctypes.Structure):
    _fields_ = (("unused", ctypes.c_char * 64), ("name", ctypes.c_char * 16))


class _LinkInfo(ctypes.Structure):
    _fields_ = (
        ("type", _u32),
        ("id", _u32),
        ("prog_id", _u32),
        ("unused", _u32),
        ("ifindex", _u32),  # of an XDP link; of a cgroup's link the first half of its id
    )


class _Held:
    """Something of the kernel's, by its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """Open what is pinned at a path.

        Raises:
            FileNotFoundError: nothing is.
        """
        return cls(_checked(_library().bpf_obj_get(bytes(path))))

    def pin(self, path: Path) -> None:
        """Let it outlive this process. The path is in a bpffs; no name in it may have a dot.

        Raises:
            FileExistsError: something is pinned there.
        """
        _checked(_library().bpf_obj_pin(self.fd, bytes(path)))

    def _info(self, kind: type[Any]) -> Any:
        data = ctypes.create_string_buffer(_INFO)
        size = _u32(_INFO)
        _checked(_library().bpf_obj_get_info_by_fd(self.fd, data, ctypes.byref(size)))
        return kind.from_buffer(data)


class Map(_Held):
    """A map. Its sizes are what the kernel says of it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        info = self._info(_MapInfo)
        self.type: int = info.type
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags
        self.name: str = info.name.decode()
        self._value = ctypes.create_string_buffer(self.value_size)

    @classmethod
    def hash(cls, name: str, key_size: int, value_size: int, size: int) -> Self:
        """Make a hash of at most `size` elements, with memory only for those that there are."""
        options = _MapCreate(map_flags=_NO_PREALLOC)
        made = _library().bpf_map_create(
            _HASH, name.encode()[:15], key_size, value_size, size, ctypes.byref(options)
        )
        return cls(_checked(made))

    def memory(self) -> int:
        """Return the bytes that it takes, as the kernel says (/proc/self/fdinfo).

        Since Linux 6.3 that grows with what is in it; before, it is what it could grow to.
        """
        for line in Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines():
            if line.startswith("memlock:"):
                return int(line.split()[1])
        return 0

    def lookup(self, key: bytes) -> bytes | None:
        """Return a value, or None. Not for maps with a value for each processor."""
        if number := -_library().bpf_map_lookup_elem(self.fd, key, self._value):
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        return self._value.raw

    def total(self, index: int) -> int:
        """Return the sum over all processors of a counter of eight bytes in a PERCPU_ARRAY."""
        values = (_u64 * _checked(_library().libbpf_num_possible_cpus()))()
        key = index.to_bytes(4, sys.byteorder)
        _checked(_library().bpf_map_lookup_elem(self.fd, key, values))
        return sum(values)

    def update(self, key: bytes, value: bytes) -> None:
        """Put an element in, or another value in its place."""
        _checked(_library().bpf_map_update_elem(self.fd, key, value, 0))

    def delete(self, key: bytes) -> bool:
        """Take an element out; tell whether it was there."""
        number = -_library().bpf_map_delete_elem(self.fd, key)
        if number not in (0, errno.ENOENT):
            raise OSError(number, os.strerror(number))
        return not number

    def update_batch(self, keys: bytes, values: bytes, count: int) -> tuple[int, int]:
        """Put elements in, in their order, until one is refused.

        Returns:
            how many are in, and the errno of the next one (0: all are in).
        """
        done = _u32(count)
        number = -_library().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(done), None)
        if number and done.value == count:  # it was refused before it began
            return 0, number
        return done.value, number

    def read(self, cursor: bytes | None = None) -> tuple[bytes, bytes, int, bytes | None]:
        """Read a piece of a hash or an array: at least a bucket, mostly some thousand elements.

        Args:
            cursor: where the piece before ended; None is the beginning.

        Returns:
            keys, values, how many, and the next cursor; None after the last piece. What is in the
            map all the time is returned exactly once.
        """
        return self._read(_library().bpf_map_lookup_batch, cursor)

    def take(self) -> tuple[bytes, bytes]:
        """Take everything out of a hash; return the keys and the values.

        What a program adds to a value in the very moment between its reading and its removal is
        lost.
        """
        keys, values = [], []
        cursor: bytes | None = None
        while True:
            take = _library().bpf_map_lookup_and_delete_batch
            some, of_them, _count, cursor = self._read(take, cursor)
            keys.append(some)
            values.append(of_them)
            if cursor is None:
                return b"".join(keys), b"".join(values)

    def _read(self, function: Any, cursor: bytes | None) -> tuple[bytes, bytes, int, bytes | None]:
        size = _PIECE
        while True:
            count = _u32(size)
            keys = ctypes.create_string_buffer(size * self.key_size)
            values = ctypes.create_string_buffer(size * self.value_size)
            after = ctypes.create_string_buffer(max(4, self.key_size))
            number = -function(self.fd, cursor, after, keys, values, ctypes.byref(count), None)
            if number == errno.ENOSPC:  # one bucket holds more
                size *= 2
                continue
            if number not in (0, errno.ENOENT):
                raise OSError(number, os.strerror(number))
            return (
                keys.raw[: count.value * self.key_size],
                values.raw[: count.value * self.value_size],
                count.value,
                None if number else after.raw,
            )

    def keys(self) -> Iterator[bytes]:
        """Yield all keys. For small maps of any type."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_size)
        while True:
            number = -_library().bpf_map_get_next_key(self.fd, key, following)
            if number == errno.ENOENT:
                return
            if number:
                raise OSError(number, os.strerror(number))
            key = following.raw
            yield key


class Link(_Held):
    """A program's hold on an interface or a cgroup. The last descriptor or pin of it ends it."""

    @property
    def program(self) -> int:
        """The number of the program it holds, see `Program.by_number`."""
        return int(self._info(_LinkInfo).prog_id)

    @property
    def attached(self) -> bool:
        """Whether it still holds; a detached one lives on as a descriptor."""
        return bool(self._info(_LinkInfo).ifindex)

    @property
    def ifindex(self) -> int:
        """The interface of an XDP link; 0 where it is gone."""
        return int(self._info(_LinkInfo).ifindex)

    def update(self, program: "Program") -> None:
        """Put another program in place of the one that runs; no packet passes in between."""
        _checked(_library().bpf_link_update(self.fd, program.fd, None))

    def detach(self) -> None:
        """End it, whoever else holds it."""
        _checked(_library().bpf_link_detach(self.fd))


class Program(_Held):
    """A loaded program."""

    @classmethod
    def by_number(cls, number: int) -> Self:
        """Open any program of this kernel. Needs CAP_SYS_ADMIN."""
        return cls(_checked(_library().bpf_prog_get_fd_by_id(number)))

    @property
    def name(self) -> str:
        """Its name, at most 15 characters."""
        return str(self._info(_ProgramInfo).name.decode())

    def attach(self, target: int, kind: int, flags: int = 0) -> Link:
        """Attach to an interface (by index) or a cgroup (by descriptor).

        Args:
            target: where.
            kind: ATTACH_*.
            flags: XDP_GENERIC or XDP_NATIVE.

        Raises:
            OSError: EBUSY or EEXIST: another program is there. EOPNOTSUPP: not on this interface.
        """
        options = _LinkCreate(flags=flags)
        made = _library().bpf_link_create(self.fd, target, kind, ctypes.byref(options))
        return Link(_checked(made))

    def test(self, data: bytes, repeat: int = 1) -> tuple[int, int]:
        """Run it on a packet; return what it returns and the nanoseconds that it took."""
        memory = ctypes.create_string_buffer(data, len(data))
        options = _TestRun(data_in=ctypes.addressof(memory), data_size_in=len(data), repeat=repeat)
        _checked(_library().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)))
        return options.retval, options.duration

    def transmit(self, data: bytes, ifindex: int, repeat: int, batch: int = 64) -> int:
        """Run an XDP program on live frames: what it returns happens to them.

        Returns how many nanoseconds it took for each, without the preparation (15 ms in all).

        Args:
            data: the frame.
            ifindex: the interface on which they seem to arrive.
            repeat: how many.
            batch: how many at a time, at most 256.
        """
        memory = ctypes.create_string_buffer(data, len(data))
        # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        context = (_u32 * 6)(0, len(data), 0, ifindex, 0, 0)
        options = _TestRun(
            data_in=ctypes.addressof(memory),
            data_size_in=len(data),
            ctx_in=ctypes.addressof(context),
            ctx_size_in=ctypes.sizeof(context),
            repeat=repeat,
            flags=_LIVE_FRAMES,
            batch_size=batch,
        )
        _checked(_library().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)))
        took: int = options.duration
        return took


class Object:
    """A compiled file: its maps are made and its programs loaded together."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            BackendError: libbpf is not installed, or the file is not there or not usable.
        """
        if not path.exists():
            raise BackendError(
                f"{path.name} was not built", "install the package again, with clang at hand"
            )
        self._library = _library()
        self._pointer = self._library.bpf_object__open_file(bytes(path), None)
        if not self._pointer:
            raise _refused(f"{path.name} cannot be opened", ctypes.get_errno())
        self._name = path.name

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._library.bpf_object__close(self._pointer)

    def reuse(self, name: str, held: Map) -> None:
        """Before `load`: take a map that there is, instead of making it."""
        _checked(self._library.bpf_map__reuse_fd(self._map(name), held.fd))

    def load(self) -> None:
        """Make the maps and load the programs.

        Raises:
            BackendError: the kernel refused; the hint is the end of what libbpf says about it.
        """
        _said.clear()
        if number := -self._library.bpf_object__load(self._pointer):
            raise _refused(f"the kernel does not load {self._name}", number)

    def map(self, name: str) -> Map:
        """Return a map of the loaded object."""
        return Map(os.dup(_checked(self._library.bpf_map__fd(self._map(name)))))

    def program(self, name: str) -> Program:
        """Return a program of the loaded object."""
        found = self._library.bpf_object__find_program_by_name(self._pointer, name.encode())
        if not found:
            raise KeyError(name)
        return Program(os.dup(_checked(self._library.bpf_program__fd(found))))

    def _map(self, name: str) -> int:
        found: int | None = self._library.bpf_object__find_map_by_name(self._pointer, name.encode())
        if not found:
            raise KeyError(name)
        return found


#: What libbpf said last. It writes one line, or one verifier's log, at a time.
_said: deque[str] = deque(maxlen=20)
_PRINT = ctypes.CFUNCTYPE(_int, _int, _text, _pointer)


def _listen(level: int, form: bytes, arguments: int) -> int:
    # A va_list is passed as a pointer on x86-64 and AArch64, and so can be passed on as one.
    if level > 1:  # LIBBPF_DEBUG
        return 0
    text = ctypes.create_string_buffer(1 << 16)
    length = int(_libc.vsnprintf(text, len(text), form, _pointer(arguments)))
    _said.extend(text.value.decode(errors="replace").splitlines())
    return length


_libc = ctypes.CDLL(None)
_listener = _PRINT(_listen)


def _refused(what: str, number: int) -> BackendError:
    hint = "\n".join(_said)[-2000:] or "needs Linux 5.18 or later"
    # Without CAP_PERFMON the verifier forbids much, and which of it first differs by kernel.
    if number == errno.EPERM or (number == errno.EACCES and not _may_read_kernel()):
        hint = RIGHTS
    return BackendError(f"{what}: {os.strerror(number)}", hint)


def _may_read_kernel() -> bool:
    """Tell whether this thread has CAP_PERFMON, or CAP_SYS_ADMIN, which includes it."""
    status = Path("/proc/thread-self/status").read_text()
    (effective,) = (line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & (1 << 38 | 1 << 21))


def _checked(result: int) -> int:
    """Return what a call of libbpf gave, unless that is an error.

    Raises:
        OSError: it is.
    """
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


@cache
def _library() -> ctypes.CDLL:
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
    several = ctypes.POINTER(_u32)
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
        ("bpf_map_create", _int, (_int, _text, _u32, _u32, _u32, _pointer)),
        ("bpf_map_lookup_elem", _int, (_int, _pointer, _pointer)),
        ("bpf_map_update_elem", _int, (_int, _pointer, _pointer, _u64)),
        ("bpf_map_delete_elem", _int, (_int, _pointer)),
        ("bpf_map_get_next_key", _int, (_int, _pointer, _pointer)),
        ("bpf_map_lookup_batch", _int, (_int, *(_pointer,) * 4, several, _pointer)),
        ("bpf_map_lookup_and_delete_batch", _int, (_int, *(_pointer,) * 4, several, _pointer)),
        ("bpf_map_update_batch", _int, (_int, _pointer, _pointer, several, _pointer)),
        ("bpf_prog_get_fd_by_id", _int, (_u32,)),
        ("bpf_link_create", _int, (_int, _int, _int, _pointer)),
        ("bpf_link_update", _int, (_int, _int, _pointer)),
        ("bpf_link_detach", _int, (_int,)),
        ("bpf_prog_test_run_opts", _int, (_int, _pointer)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_listener)
    return library
