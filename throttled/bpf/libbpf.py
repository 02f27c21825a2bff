"""Objects of BPF in the kernel: compiled files, programs, maps, links. By libbpf.

Each `Map`, `Program` and `Link` owns a file descriptor and closes it with itself; what is pinned or
attached lives on in the kernel. Every refusal is an `OSError` with the kernel's errno, or where
libbpf says more than that, a `BackendError` with the end of what it says as hint. Keys and values
are bytes as they are in the kernel.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from throttled.bpf.bindings import (
    LinkCreate,
    LinkInfo,
    MapCreate,
    MapInfo,
    ProgramInfo,
    checked,
    library,
    refusal,
    said,
    u32,
    u64,
)
from throttled.errors import BackendError

#: Where `hatch_build.py` puts what it compiles.
OBJECTS = Path(__file__).parent

# linux/bpf.h: enum bpf_map_type, bpf_attach_type, flags; linux/if_link.h: XDP_FLAGS_*
_HASH, _NO_PREALLOC = 1, 1
ATTACH_CGROUP_INGRESS, ATTACH_CGROUP_SOCK_OPS, ATTACH_XDP = 0, 3, 37
XDP_GENERIC, XDP_NATIVE = 2, 4

_PIECE = 4096  # elements of a map read at a time
_INFO = 256  # bytes: more than any bpf_*_info has; the kernel fills in what it knows


class _Descriptor:
    """An object of the kernel, by its file descriptor."""

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
        return cls(checked(library().bpf_obj_get(bytes(path))))

    def pin(self, path: Path) -> None:
        """Let it outlive this process. The path is in a bpffs; no name in it may have a dot.

        Raises:
            FileExistsError: something is pinned there.
        """
        checked(library().bpf_obj_pin(self.fd, bytes(path)))

    def _info(self, kind: type[Any]) -> Any:
        data = ctypes.create_string_buffer(_INFO)
        size = u32(_INFO)
        checked(library().bpf_obj_get_info_by_fd(self.fd, data, ctypes.byref(size)))
        return kind.from_buffer(data)


class Map(_Descriptor):
    """A map. Its sizes are what the kernel says of it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        info = self._info(MapInfo)
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self._value = ctypes.create_string_buffer(self.value_size)

    @classmethod
    def hash(cls, name: str, key_size: int, value_size: int, size: int) -> Self:
        """Make a hash of at most `size` elements, with memory only for those that there are."""
        options = MapCreate(map_flags=_NO_PREALLOC)
        made = library().bpf_map_create(
            _HASH, name.encode()[:15], key_size, value_size, size, ctypes.byref(options)
        )
        return cls(checked(made))

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
        if number := -library().bpf_map_lookup_elem(self.fd, key, self._value):
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        return self._value.raw

    def total(self, index: int) -> int:
        """Return the sum over all processors of a counter of eight bytes in a PERCPU_ARRAY."""
        values = (u64 * checked(library().libbpf_num_possible_cpus()))()
        key = index.to_bytes(4, sys.byteorder)
        checked(library().bpf_map_lookup_elem(self.fd, key, values))
        return sum(values)

    def update(self, key: bytes, value: bytes) -> None:
        """Put an element in, or another value in its place."""
        checked(library().bpf_map_update_elem(self.fd, key, value, 0))

    def delete(self, key: bytes) -> bool:
        """Take an element out; return whether it was there."""
        number = -library().bpf_map_delete_elem(self.fd, key)
        if number not in (0, errno.ENOENT):
            raise OSError(number, os.strerror(number))
        return not number

    def update_batch(self, keys: bytes, values: bytes, count: int) -> tuple[int, int]:
        """Put elements in, in their order, until one is refused.

        Returns:
            how many are in, and the errno of the next one (0: all are in).
        """
        done = u32(count)
        number = -library().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(done), None)
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
        return self._read(library().bpf_map_lookup_batch, cursor)

    def drain(self) -> tuple[bytes, bytes]:
        """Take everything out of a hash; return the keys and the values.

        What a program adds to a value in the very moment between its reading and its removal is
        lost.
        """
        keys, values = [], []
        cursor: bytes | None = None
        while True:
            drain = library().bpf_map_lookup_and_delete_batch
            some, of_them, _count, cursor = self._read(drain, cursor)
            keys.append(some)
            values.append(of_them)
            if cursor is None:
                return b"".join(keys), b"".join(values)

    def _read(self, function: Any, cursor: bytes | None) -> tuple[bytes, bytes, int, bytes | None]:
        size = _PIECE
        while True:
            count = u32(size)
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
            number = -library().bpf_map_get_next_key(self.fd, key, following)
            if number == errno.ENOENT:
                return
            if number:
                raise OSError(number, os.strerror(number))
            key = following.raw
            yield key


class Link(_Descriptor):
    """A program's hold on an interface or a cgroup. The last descriptor or pin of it ends it."""

    @property
    def number(self) -> int:
        """Its own number, which no other link of this boot has."""
        return int(self._info(LinkInfo).id)

    @property
    def program(self) -> int:
        """The number of the program it holds, see `Program.by_number`."""
        return int(self._info(LinkInfo).prog_id)

    @property
    def attached(self) -> bool:
        """Whether it still holds; a detached one lives on as a descriptor."""
        return bool(self._info(LinkInfo).ifindex)

    @property
    def ifindex(self) -> int:
        """The interface of an XDP link; 0 where it is gone."""
        return int(self._info(LinkInfo).ifindex)

    def update(self, program: "Program") -> None:
        """Put another program in place of the one that runs; no packet passes in between."""
        checked(library().bpf_link_update(self.fd, program.fd, None))

    def detach(self) -> None:
        """End it, whoever else holds it."""
        checked(library().bpf_link_detach(self.fd))


class Program(_Descriptor):
    """A loaded program."""

    @classmethod
    def by_number(cls, number: int) -> Self:
        """Open any program of this kernel. Needs CAP_SYS_ADMIN."""
        return cls(checked(library().bpf_prog_get_fd_by_id(number)))

    @property
    def name(self) -> str:
        """Its name, at most 15 characters."""
        return str(self._info(ProgramInfo).name.decode())

    def attach(self, target: int, kind: int, flags: int = 0) -> Link:
        """Attach to an interface (by index) or a cgroup (by descriptor).

        Args:
            target: where.
            kind: ATTACH_*.
            flags: XDP_GENERIC or XDP_NATIVE.

        Raises:
            OSError: EBUSY or EEXIST: another program is there. EOPNOTSUPP: not on this interface.
        """
        options = LinkCreate(flags=flags)
        made = library().bpf_link_create(self.fd, target, kind, ctypes.byref(options))
        return Link(checked(made))


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
        self._library = library()
        self._pointer = self._library.bpf_object__open_file(bytes(path), None)
        if not self._pointer:
            raise refusal(f"{path.name} cannot be opened", ctypes.get_errno())
        self._name = path.name

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._library.bpf_object__close(self._pointer)

    def reuse(self, name: str, existing: Map) -> None:
        """Before `load`: take a map that there is, instead of making it."""
        checked(self._library.bpf_map__reuse_fd(self._map(name), existing.fd))

    def load(self) -> None:
        """Make the maps and load the programs.

        Raises:
            BackendError: the kernel refused; the hint is the end of what libbpf says about it.
        """
        said.clear()
        if number := -self._library.bpf_object__load(self._pointer):
            raise refusal(f"the kernel does not load {self._name}", number)

    def map(self, name: str) -> Map:
        """Return a map of the loaded object."""
        return Map(os.dup(checked(self._library.bpf_map__fd(self._map(name)))))

    def program(self, name: str) -> Program:
        """Return a program of the loaded object."""
        found = self._library.bpf_object__find_program_by_name(self._pointer, name.encode())
        if not found:
            raise KeyError(name)
        return Program(os.dup(checked(self._library.bpf_program__fd(found))))

    def _map(self, name: str) -> int:
        found: int | None = self._library.bpf_object__find_map_by_name(self._pointer, name.encode())
        if not found:
            raise KeyError(name)
        return found
