"""libsystemd's journal reader through ctypes: what `journal` needs of it, and nothing more.

A `Reader` owns its handle. It works only in the process that made it (sd-journal(3)).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from ctypes import (
    CDLL,
    POINTER,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint64,
    c_void_p,
    string_at,
)
from functools import cache

from throttled.errors import SourceError

#: sd-journal.h: this machine's journals only, and of these the system's, where no entry is that
#: an ordinary user wrote (unless journald.conf has SplitMode=none).
_LOCAL_ONLY = 1
_SYSTEM = 4

_HANDLE = c_void_p
_CALLS: dict[str, Sequence[type]] = {
    "open": (POINTER(_HANDLE), c_int),
    "add_match": (_HANDLE, c_char_p, c_size_t),
    "add_disjunction": (_HANDLE,),
    "set_data_threshold": (_HANDLE, c_size_t),
    "get_fd": (_HANDLE,),
    "process": (_HANDLE,),
    "next": (_HANDLE,),
    "previous": (_HANDLE,),
    "seek_head": (_HANDLE,),
    "seek_tail": (_HANDLE,),
    "seek_cursor": (_HANDLE, c_char_p),
    "seek_realtime_usec": (_HANDLE, c_uint64),
    "test_cursor": (_HANDLE, c_char_p),
    "get_cursor": (_HANDLE, POINTER(c_void_p)),
    "get_realtime_usec": (_HANDLE, POINTER(c_uint64)),
    "has_runtime_files": (_HANDLE,),
    "has_persistent_files": (_HANDLE,),
}


@cache
def _library() -> CDLL:
    """Return libsystemd, its calls declared: a negative errno as answer raises SourceError."""
    try:
        library = CDLL("libsystemd.so.0")
    except OSError as error:
        hint = "install libsystemd0, or set journal = false in [log]"
        raise SourceError("cannot read the journal: there is no libsystemd", hint) from error
    for name, arguments in _CALLS.items():
        function = getattr(library, f"sd_journal_{name}")
        function.argtypes = arguments
        function.errcheck = _checked
    # Of these no failure is worth an exception: a field that an entry has not, a handle closed.
    library.sd_journal_get_data.argtypes = (
        _HANDLE,
        c_char_p,
        POINTER(c_void_p),
        POINTER(c_size_t),
    )
    library.sd_journal_close.argtypes = (_HANDLE,)
    library.sd_journal_close.restype = None
    return library


def _checked(result: int, function: Callable[..., int], _arguments: object) -> int:
    if result < 0:
        call = getattr(function, "__name__", "a call")
        raise SourceError(
            f"cannot read the journal: {call}: {os.strerror(-result)}",
            "journalctl --verify checks its files",
        )
    return result


class Reader:
    """A place in the system's journal, and the entries that match.

    Args:
        groups: an entry is seen if it fits one group: each field that is named there has one of
            the values given, as `FIELD=value`.
        threshold: bytes of a field that are enough; libsystemd may leave out more.

    Raises:
        SourceError: there is no journal, or it may not be read.
    """

    def __init__(self, groups: Iterable[Sequence[bytes]], threshold: int) -> None:
        self._library = _library()
        self._handle = _HANDLE()
        self._data = c_void_p()
        self._length = c_size_t()
        self._usec = c_uint64()
        self._field = byref(self._data), byref(self._length)
        self._get_data = self._library.sd_journal_get_data  # called for each field of each line
        self._library.sd_journal_open(byref(self._handle), _LOCAL_ONLY | _SYSTEM)
        try:
            self._require_files()
            self._library.sd_journal_set_data_threshold(self._handle, threshold)
            for group in groups:
                for match in group:
                    self._library.sd_journal_add_match(self._handle, match, len(match))
                self._library.sd_journal_add_disjunction(self._handle)
        except SourceError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that reports changed files, up to half a second late."""
        return int(self._library.sd_journal_get_fd(self._handle))

    def process(self) -> None:
        """Take in which files came and went."""
        self._library.sd_journal_process(self._handle)

    def next(self) -> bool:
        """Go to the next entry; False: there is none yet."""
        return bool(self._library.sd_journal_next(self._handle))

    def previous(self) -> bool:
        """Go to the entry before; False: there is none."""
        return bool(self._library.sd_journal_previous(self._handle))

    def seek_tail(self) -> bool:
        """Go to the last entry; False: there is none, and this is before the first that comes."""
        self._library.sd_journal_seek_tail(self._handle)
        found = self.previous()
        if not found:
            self._library.sd_journal_seek_head(self._handle)
        return found

    def seek_cursor(self, cursor: bytes) -> None:
        """Go before an entry, or before the first one after it if it is gone.

        Raises:
            SourceError: the cursor is none.
        """
        self._library.sd_journal_seek_cursor(self._handle, cursor)

    def at_cursor(self, cursor: bytes) -> bool:
        """Return whether this is that entry."""
        return bool(self._library.sd_journal_test_cursor(self._handle, cursor))

    def seek_time(self, usec: int) -> bool:
        """Go to the first entry of that very microsecond; False: there is none."""
        self._library.sd_journal_seek_realtime_usec(self._handle, usec)
        return self.next() and self.time() == usec

    def field(self, name: bytes) -> bytes:
        """Return a field of this entry; empty where it has none of that name."""
        if self._get_data(self._handle, name, *self._field) < 0:
            return b""
        return string_at(self._data, self._length.value)[len(name) + 1 :]

    def time(self) -> int:
        """Return when journald received this entry, microseconds since the epoch."""
        self._library.sd_journal_get_realtime_usec(self._handle, byref(self._usec))
        return self._usec.value

    def cursor(self) -> bytes:
        """Return what finds this entry again."""
        text = c_void_p()
        self._library.sd_journal_get_cursor(self._handle, byref(text))
        try:
            return string_at(text)
        finally:
            _free()(text)

    def close(self) -> None:
        """Give handle and files back."""
        self._library.sd_journal_close(self._handle)
        self._handle = _HANDLE()

    def _require_files(self) -> None:
        library, handle = self._library, self._handle
        if not (
            library.sd_journal_has_runtime_files(handle)
            or library.sd_journal_has_persistent_files(handle)
        ):
            hint = "run as root or in the group systemd-journal; is systemd-journald running?"
            raise SourceError("cannot read the journal: no journal file was found", hint)


@cache
def _free() -> Callable[[c_void_p], None]:
    free = CDLL(None).free
    free.argtypes = (c_void_p,)
    free.restype = None
    return free
