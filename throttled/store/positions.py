"""Logs: which files there were, and how far each was read. Owns a cache of log sources."""

from collections.abc import Iterable, Sequence

from throttled.model import Evidence
from throttled.store import record
from throttled.store.database import Database
from throttled.store.rows import StoredPosition, signed, unsigned

_CACHED = 1000


class Positions:
    """Log sources and positions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sources: dict[tuple[str, int, int, bytes], int] = {}

    def source(self, path: str, device: int, inode: int, mark: bytes = b"") -> int:
        """Return the number of a log file (`Line.source`); a new one is recorded at once.

        Args:
            path: as configured.
            device: with `inode`, which file it is.
            inode: see `device`.
            mark: its fingerprint; b"" where there is none. A file that grew longer than its
                fingerprint was becomes another source.
        """
        key = (path, signed(device), signed(inode), mark)
        number = self._sources.get(key)
        if number is None:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO source (path, device, inode, mark) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    key,
                )
                (number,) = connection.execute(
                    "SELECT number FROM source"
                    " WHERE path = ? AND device = ? AND inode = ? AND mark = ?",
                    key,
                ).fetchone()
            if len(self._sources) >= _CACHED:
                self._sources.clear()
            self._sources[key] = number
        return number

    def source_file(self, number: int) -> tuple[str, int, int, bytes] | None:
        """Return (path, device, inode, mark) of a log file; None if it is no longer known."""
        rows = self._database.rows(
            "SELECT path, device, inode, mark FROM source WHERE number = ?", (number,)
        )
        for path, device, inode, mark in rows:
            return path, unsigned(device), unsigned(inode), mark
        return None

    def all(self) -> dict[str, StoredPosition]:
        """Return how far each log has been read, by path."""
        rows = self._database.rows("SELECT path, state FROM position WHERE typeof(state) = 'blob'")
        return {path: StoredPosition(path, state) for path, state in rows}

    def remove(self, paths: Iterable[str]) -> None:
        """Remove how far logs have been read that are gone."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM position WHERE path = ?", ((p,) for p in paths))

    def backlog(self) -> dict[str, bytes]:
        """Return how far existing logs have been read for evidence, by path; empty: done."""
        query = "SELECT path, state FROM backlog WHERE typeof(state) = 'blob'"
        return dict(self._database.rows(query))

    def record_backlog(
        self, now: float, states: Iterable[StoredPosition], evidence: Sequence[Evidence] = ()
    ) -> None:
        """Record, in one transaction, how far existing logs have been read and what they say."""
        with self._database.transaction() as connection:
            if evidence:
                record.evidence(connection, evidence, now)
            record.backlog(connection, states)
