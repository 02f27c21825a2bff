"""The record of what operators changed. Owns no state.

Limits: a year, and `CHANGES` rows: the oldest are deleted first, when the next is written.
"""

import sqlite3
from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from throttled.model import Change
from throttled.store.database import Database
from throttled.store.rows import clip

CHANGES = 100_000
_KEPT = 365 * 86400.0

_WRITE = """
INSERT INTO audit (time, uid, user, pid, program, op, subject, request, outcome, ok, offline)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_AGAIN = """
UPDATE audit SET outcome = ?1, ok = ok AND ?2
    WHERE number = (SELECT number FROM audit WHERE op = ?3 AND uid = ?4
        AND number > (SELECT max(number) FROM audit) - 1000 AND instr(request, ?5)
        ORDER BY number DESC LIMIT 1)
"""
_READ = """
SELECT time, uid, user, pid, program, op, subject, request, outcome, ok, offline FROM audit
    WHERE time > ?1 AND (?2 IS NULL OR subject IN (SELECT value FROM json_each(?2)))
    ORDER BY number DESC LIMIT ?3
"""
_PRUNE = "DELETE FROM audit WHERE time < ? OR number <= (SELECT max(number) FROM audit) - ?"


def write(connection: sqlite3.Connection, change: Change, command: str = "") -> None:
    """Add a change inside the caller's transaction, see `Audit.write`."""
    row = [clip(value) if isinstance(value, str) else value for value in astuple(change)]
    again = (clip(change.outcome), change.ok, change.op, change.uid, command)
    if not command or not connection.execute(_AGAIN, again).rowcount:
        connection.execute(_WRITE, row)
    connection.execute(_PRUNE, (change.time - _KEPT, CHANGES))


class Audit:
    """The table of changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, change: Change, command: str = "") -> None:
        """Add a change, and delete the oldest ones.

        Args:
            change: what was changed.
            command: an id in the request, if other parts of the same command may be recorded
                already: their row then gets this outcome.
        """
        with self._database.transaction() as connection:
            write(connection, change, command)

    def changes(
        self, since: float = 0.0, subjects: Sequence[str] | None = None, count: int = 1000
    ) -> list[Change]:
        """Return changes later than `since`, of some subjects or all, the latest first."""
        names = None if subjects is None else msgspec.json.encode(subjects).decode()
        rows = self._database.rows(_READ, (since, names, count))
        return [Change(*(*row[:9], bool(row[9]), bool(row[10]))) for row in rows]
