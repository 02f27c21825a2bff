"""The connection to the SQLite file: opening, pragmas, migrations, transactions, errors.

Owns the connection; belongs to the thread that opened it. Write-ahead log with synchronous=NORMAL:
a commit is a write without fsync, so killing the process loses nothing, while a power cut may
lose the last transactions, never the order or the consistency of what came before.

Limits: waits `BUSY` seconds for another process's lock; at most 8 MB of page cache; the write-ahead
log is written back every 4 MB at the latest, and its file kept below 64 MB. Nothing is ever
deleted or repaired: a file of another program, damaged or too new is left as it is.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from throttled.skipped import Skipped
from throttled.store import errors, migrate

MEMORY = ":memory:"
#: Rows of a transaction or a SELECT where there may be a million.
CHUNK = 10_000
BUSY = 0.1
_APPLICATION = 1953002095  # "thro", as in migrations/0001.sql

_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8000",  # KiB
    "PRAGMA wal_autocheckpoint = 1000",  # pages of 4 KiB: 5 ms; `checkpoint` when idle
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA secure_delete = FAST",  # Debian's default is to overwrite what is deleted
)


class Guard(errors.Translated):
    """Gives a connection, and raises SQLite's errors as StoreError."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        super().__init__(path)
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        return self._connection


class Database:
    """One open database.

    Args:
        path: the file, or `MEMORY`. Created (mode 0600) unless `readonly`.
        readonly: only read.
        migrations: see `migrate.scripts`.

    Raises:
        StoreError: it cannot be used; the hint says why.
    """

    def __init__(self, path: str, *, readonly: bool, migrations: Sequence[str]) -> None:
        self.path = path
        self.skipped = Skipped()
        self._readonly = readonly
        if path != MEMORY:
            _ready(path, readonly=readonly)
        self._identity: tuple[int, int] | None = None
        with errors.Translated(path):
            self.connection = _connect(path, readonly=readonly)
        self._guard = Guard(path, self.connection)
        try:
            with self.guard():
                self._prepare(migrations)
            if path != MEMORY:
                self._identity = _identity(path)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the connection; the write-ahead log is written back where it can be."""
        self.connection.close()

    def guard(self) -> Guard:
        """Give the connection, and raise SQLite's errors as StoreError."""
        return self._guard

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Return what a SELECT finds."""
        with self.guard() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction: all of it is recorded, or nothing.

        Raises:
            StoreError: nothing was recorded. The database can be used again at once.
        """
        with self.guard() as connection:
            if self.gone():
                raise errors.gone(self.path)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:  # some errors end it by themselves
                    connection.execute("ROLLBACK")

    def execute(self, statement: str, values: Sequence[Any]) -> None:
        """Execute one statement that writes: a transaction of its own.

        Raises:
            StoreError: nothing was recorded.
        """
        with self.guard() as connection:
            if self.gone():
                raise errors.gone(self.path)
            connection.execute(statement, values)

    @contextmanager
    def rehearsal(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction that is always undone."""
        with self.guard() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def gone(self) -> bool:
        """Return whether the file was deleted or replaced since it was opened."""
        return self._identity is not None and _identity(self.path) != self._identity

    def checkpoint(self) -> None:
        """Write the write-ahead log back, as far as no reader needs it."""
        with self.guard() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _prepare(self, migrations: Sequence[str]) -> None:
        connection = self.connection
        with self.rehearsal():  # of one moment, as another process may be migrating it
            version, complete = self._compared(migrations)
        if self._readonly:
            if version < len(migrations) or not complete:
                raise errors.older(self.path, version, len(migrations))
            return
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if not complete:
            with self.transaction():
                migrate.complete(connection, version, migrations)
        for number, script in enumerate(migrations, 1):
            with self.transaction():  # also when there is nothing to do: is it locked?
                if _number(connection, "PRAGMA user_version") < number:
                    for statement in migrate.statements(script):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {number}")

    def _compared(self, migrations: Sequence[str]) -> tuple[int, bool]:
        """Return the database's version, and whether nothing of it is missing.

        Raises:
            StoreError: it is another program's, a later release's, or of an unknown schema.
        """
        connection = self.connection
        version = _number(connection, "PRAGMA user_version")
        tables = _number(connection, "SELECT count(*) FROM sqlite_master")
        ours = _number(connection, "PRAGMA application_id") == _APPLICATION
        if not ours and (version or tables):
            raise errors.foreign(self.path)
        if version > len(migrations):
            raise errors.newer(self.path, version, len(migrations))
        missing, other = migrate.differences(connection, version, migrations)
        if (missing or other) and not migrate.completable(version, other):
            raise errors.earlier(self.path, missing + other)
        return version, not missing


def _ready(path: str, *, readonly: bool) -> None:
    if readonly:
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise errors.missing(path) from error
        except PermissionError as error:
            raise errors.unreachable(path) from error
        except OSError as error:  # a name too long, a failing disk
            raise errors.inaccessible(error, path) from error
        if not os.access(path, os.R_OK, effective_ids=True):
            raise errors.unreachable(path)
        return
    try:
        # Never opened when it exists: closing would drop the locks of this process's connections.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # SQLite would open it, and fail at the first record.
        if not os.access(path, os.W_OK, effective_ids=True):
            raise errors.read_only(path) from None
    except OSError as error:
        raise errors.uncreatable(error, path) from error


class _Connection(sqlite3.Connection):
    """Binds `?1`, `?2`, … by position, in the way that Python knows of them: by name.

    Python 3.12 warns about a sequence for these, 3.14 refuses it.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement."""
        return super().execute(sql, _numbered(parameters) if "?1" in sql else parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement with each of some parameters."""
        many = map(_numbered, parameters) if "?1" in sql else parameters
        return super().executemany(sql, many)


def _numbered(parameters: Sequence[Any]) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(parameters, 1)}


def _connect(path: str, *, readonly: bool) -> sqlite3.Connection:
    if path == MEMORY:
        return sqlite3.connect(path, isolation_level=None, factory=_Connection)
    mode = "ro" if readonly else "rw"
    uri = f"file:{quote(str(Path(path).absolute()))}?mode={mode}"
    return sqlite3.connect(uri, timeout=BUSY, isolation_level=None, uri=True, factory=_Connection)


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked before each transaction: a Path takes 4 x
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _number(connection: sqlite3.Connection, query: str) -> int:
    (number,) = connection.execute(query).fetchone()
    return int(number)
