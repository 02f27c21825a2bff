"""What imported lists name while the active entry of the subject is another's.

A subject has one entry for each scope, with one origin. So that it stays banned when that list no
longer names it, what the others say of it is stored here; the trigger `active_origin` adds what
replaces an entry of a list. Owns when the rows are counted again. Limits: `MOST` rows, see `prune`.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from throttled.model import Scope
from throttled.store.database import Database
from throttled.store.rows import clip

#: Rows; beyond, those that expire soonest are deleted, and some more.
MOST = 1_000_000

_ADD = """
INSERT OR REPLACE INTO listed (list, subject, scope, action, until, why) VALUES (?, ?, ?, ?, ?, ?)
"""
_OTHERS = """
SELECT l.list, l.subject, l.scope, l.action, l.until, l.why
FROM json_each(?1) k
    JOIN listed l ON l.subject = json_extract(k.value, '$[0]')
        AND l.scope = json_extract(k.value, '$[1]')
WHERE l.list <> ?2 AND l.until > ?3
ORDER BY l.action = 'throttle', l.until DESC
"""
_NAMES = """
SELECT substr(origin, 6) FROM active WHERE origin >= 'list:' AND origin < 'list;' AND until > ?1
UNION SELECT list FROM listed WHERE until > ?1
"""
_PRUNE = """
DELETE FROM listed WHERE (subject, scope, list) IN (SELECT subject, scope, list FROM listed
    WHERE until <= ?2 ORDER BY until LIMIT ?1)
"""
_FOREVER = 1e300

Key = tuple[str, Scope]


class Claim(Struct, frozen=True):
    """What a list says of a subject in a scope."""

    list: str
    subject: str
    scope: Scope
    action: Literal["ban", "throttle"]
    until: float  # wall clock
    why: str


class Claims:
    """The table `listed`."""

    def __init__(self, database: Database) -> None:
        """Read and write it there."""
        self._database = database
        self._counted = 0  # changes of the connection from which on the rows are counted again
        self._excess = 0  # rows that are still to be deleted

    def add(self, claims: Sequence[Claim]) -> None:
        """Add what lists say of subjects whose active entry is another's."""
        rows = [(c.list, c.subject, c.scope, c.action, c.until, clip(c.why)) for c in claims]
        with self._database.transaction() as connection:
            connection.executemany(_ADD, rows)

    def remove(self, name: str, keys: Sequence[Key] | None = None) -> None:
        """Remove what a list says of subjects; None: of all."""
        with self._database.transaction() as connection:
            if keys is None:
                connection.execute("DELETE FROM listed WHERE list = ?", (name,))
                return
            query = "DELETE FROM listed WHERE list = ? AND subject = ? AND scope = ?"
            connection.executemany(query, ((name, *key) for key in keys))

    def others(self, name: str, keys: Sequence[Key], now: float) -> dict[Key, Claim]:
        """Return the strongest that another list than `name` says of each subject.

        Args:
            name: of the list.
            keys: subjects and scopes.
            now: wall clock.
        """
        found: dict[Key, Claim] = {}
        with self._database.guard() as connection:
            for row in connection.execute(_OTHERS, (msgspec.json.encode(keys).decode(), name, now)):
                found.setdefault((row[1], row[2]), Claim(*row))
        return found

    def names(self, now: float) -> list[str]:
        """Return the lists that name what is active: 0.2 s for a million entries.

        Args:
            now: wall clock.
        """
        return [name for (name,) in self._database.rows(_NAMES, (now,))]

    def prune(self, connection: sqlite3.Connection, now: float, batch: int) -> int:
        """Delete up to `batch` rows that ended, or are more than `MOST`; return how many.

        A million rows take 10 ms and more to count: not done before so much changed that there may
        be more than `MOST`, so a twentieth more than necessary is deleted.
        """
        ended = connection.execute(_PRUNE, (batch, now)).rowcount
        if not self._excess and connection.total_changes >= self._counted:
            left = MOST - MOST // 20
            (rows,) = connection.execute("SELECT count(*) FROM listed").fetchone()
            self._excess = rows - left if rows > MOST else 0
            self._counted = connection.total_changes + MOST + 1 - min(rows, left)
        over = min(batch, self._excess)
        self._excess -= over
        return max(ended, connection.execute(_PRUNE, (over, _FOREVER)).rowcount)
