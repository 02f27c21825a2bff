"""What SQLite and the file system report, as errors that tell an operator what to do. No state."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from throttled.errors import NotPermittedError, StoreError

#: Primary result code -> (what is wrong, what to do about it).
_ERRORS = {
    sqlite3.SQLITE_FULL: (
        "no space left for the database {path}",
        "free space on its file system (df {directory}); recording then continues",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database {path} cannot be written",
        "make it and {directory} writable for this user; look for a file system mounted read-only",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process has locked the database {path}",
        "end the program that has it open (fuser {path})",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database {path} is damaged",
        (
            "nothing was changed. Stop throttled and move {path}, -wal and -shm away: the next"
            " start begins anew. `sqlite3 {path} .recover` saves what can be saved"
        ),
    ),
    sqlite3.SQLITE_NOTADB: (
        "{path} is not a database",
        "nothing was changed. Move the file away, or name another one as store.path",
    ),
    sqlite3.SQLITE_IOERR: (
        "the database {path} cannot be read or written",
        "look for disk errors in the kernel log (dmesg), and at quotas",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the database {path} cannot be opened",
        "this user must be able to read and write it and {directory}",
    ),
}
_OTHER = (
    "the database {path} does not work",
    "nothing was changed. Was it altered by another program? Move it away to begin a new one",
)
#: Codes that mean the same to an operator. The shared memory file is the first that does not fit.
_SAME = {
    sqlite3.SQLITE_LOCKED: sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_IOERR_SHMSIZE: sqlite3.SQLITE_FULL,
}

#: Codes that say nothing of the file: a value is NULL (NaN is), too large or of a wrong type.
_OF_A_VALUE = {
    sqlite3.SQLITE_CONSTRAINT_NOTNULL,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}


class Translated:
    """Raises SQLite's errors as StoreError where its block ends with one.

    Our own mistakes, and a value that no row takes (NaN, a number too large), surface as they are:
    tried again they would fail for ever. Of each decision several blocks are waited for, and a
    class costs half of what a generator does.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> object:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or not isinstance(error, sqlite3.Error):
            return
        of_a_value = getattr(error, "sqlite_errorcode", 0) in _OF_A_VALUE
        if not of_a_value and not isinstance(error, sqlite3.ProgrammingError):
            raise translate(error, self._path) from error


def translate(error: sqlite3.Error, path: str) -> StoreError:
    """Return the error to raise for one of SQLite's, with SQLite's own words in the message."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = _SAME.get(extended, extended & 0xFF)
    return _error(code, path, f": {error}")


def read_only(path: str) -> StoreError:
    """Return the error to raise for a file that cannot be written."""
    return _error(sqlite3.SQLITE_READONLY, path)


def uncreatable(error: OSError, path: str) -> StoreError:
    """Return the error to raise for a database file that cannot be created."""
    directory = str(Path(path).parent)
    if isinstance(error, FileNotFoundError):
        hint = f"create it (mkdir -p -m 750 {directory}), or name another path as store.path"
        return StoreError(f"the directory {directory} does not exist", hint)
    hint = f"this user must be able to write to {directory}; or name another path as store.path"
    return StoreError(f"the database {path} cannot be created: {error.strerror}", hint)


def missing(path: str) -> StoreError:
    """Return the error to raise where there is nothing to read."""
    hint = "`throttled run` creates it; is store.path the right one?"
    return StoreError(f"there is no database {path}", hint)


def unreachable(path: str) -> StoreError:
    """Return the error to raise where this user may not read the file or its directory."""
    error = StoreError(f"this user may not read the database {path}", "run as root")
    error.exit_code = NotPermittedError.exit_code
    return error


def inaccessible(error: OSError, path: str) -> StoreError:
    """Return the error to raise where the file cannot be accessed."""
    return StoreError(f"the database {path} cannot be opened: {error.strerror}")


def foreign(path: str) -> StoreError:
    """Return the error to raise for a database of another program."""
    hint = "nothing was changed. Name another path as store.path"
    return StoreError(f"the database {path} belongs to another program", hint)


def newer(path: str, version: int, known: int) -> StoreError:
    """Return the error to raise for a database that a later release wrote."""
    return StoreError(
        f"the database {path} is of version {version}, this throttled knows {known}",
        "nothing was changed. Install the newer throttled again, or move the file away",
    )


def older(path: str, version: int, known: int) -> StoreError:
    """Return the error to raise for reading a database that must be migrated first."""
    return StoreError(
        f"the database {path} is of version {version}, this throttled needs {known}",
        "start the daemon: it upgrades the database",
    )


def earlier(path: str, names: Sequence[str]) -> StoreError:
    """Return the error to raise for a database whose schema is not the one of its version."""
    return StoreError(
        f"the database {path} was made by an earlier build or changed: {', '.join(names)}",
        f"nothing was changed. Stop throttled and move {path}, -wal and -shm away: the next start"
        " makes a new one",
    )


def gone(path: str) -> StoreError:
    """Return the error to raise where the file was deleted or replaced while it was open."""
    hint = "a running throttled creates a new one, or opens the one that is there, within seconds"
    return StoreError(f"the database {path} was removed or replaced", hint)


def _error(code: int, path: str, detail: str = "") -> StoreError:
    message, hint = _ERRORS.get(code, _OTHER)
    names = {"path": path, "directory": str(Path(path).parent)}
    return StoreError(message.format(**names) + detail, hint.format(**names))
