"""Unbans: of one subject, of many, of a scope, of all. Owns no state."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from throttled.model import ACTIONS, SCOPES, Change, Decision, Entry, Scope
from throttled.store import active, audit, hourly, record
from throttled.store.database import CHUNK, Database
from throttled.store.rows import StoredPosition

#: Subjects of which it is returned when they were unbanned.
_UNBANS = 100_000

_RELEASED = """
INSERT INTO decision (time, action, subject, scope, "limit", level, until, why, value, threshold,
    lines, alert, origin)
    VALUES (?1, 'release', ?2, ?3, 'operator', 0, ?1, 'unbanned', 0, 0, '[]', '', ?4)
"""
_RECORD_UNBAN = """
INSERT INTO pardon (subject, scope, at, until) VALUES (?, ?, ?, ?)
ON CONFLICT (subject, scope) DO UPDATE SET at = excluded.at, until = excluded.until
"""
# A peer's unban may be read late: it shortens no exemption, and a later unban stays the latest.
_RECORD_PEERS_UNBAN = """
INSERT INTO pardon (subject, scope, at, until) VALUES (?, ?, ?, ?)
ON CONFLICT (subject, scope) DO UPDATE SET
    at = max(at, excluded.at), until = max(until, excluded.until)
"""
# What exempts a good sender from its network's entry is not the operator's, and continues.
_SUBJECT = """
FROM active WHERE subject = ? AND scope = ? AND NOT (action = 'exempt' AND "limit" = 'network')
"""
_UNBAN_SCOPE = """
DELETE FROM active WHERE number IN
    (SELECT number FROM active WHERE number > ?1 AND scope = ?2 AND action <> 'exempt'
        ORDER BY number LIMIT ?3)
RETURNING number, subject, action
"""
_CLEAR_SCOPE = """
DELETE FROM active WHERE scope = ? AND (action <> 'exempt' OR "limit" = 'network')
"""
_EXEMPT = "SELECT * FROM active WHERE action = 'exempt' AND \"limit\" <> 'network'"
_LATEST = "SELECT subject, scope, at FROM pardon ORDER BY at DESC LIMIT ?"
_PENDING = "SELECT subject, scope, at, until FROM pardon ORDER BY at LIMIT ?"


class Unbans:
    """Removes entries, offences and claims, and remembers when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unban(
        self,
        subject: str,
        scope: Scope | None,
        now: float,
        exempt_until: float = 0.0,
    ) -> list[Entry]:
        """Unban: remove and delete offences; the history keeps it, with the release.

        Args:
            subject: exactly this one; an address in a network is another subject.
            scope: None for all.
            now: wall clock.
            exempt_until: `Past.exempt_until` from now on; not later than now for none.

        Returns:
            What was active, with `seconds` 0: what the kernel shall no longer hold.
        """
        with self._database.transaction() as connection:
            return [
                entry
                for one in (SCOPES if scope is None else (scope,))
                for entry in _unban(connection, (subject, one), now, exempt_until)
            ]

    def unban_many(self, exempt: Mapping[tuple[str, Scope], float], now: float) -> None:
        """Unban many subjects in one transaction; see `unban`.

        Args:
            exempt: by subject and scope until when each is exempt; 0.0 for not.
            now: wall clock.
        """
        with self._database.transaction() as connection:
            for key, until in exempt.items():
                _unban(connection, key, now, until)

    def unban_of_peer(  # noqa: PLR0913 - what, of whom, and when
        self,
        exempt: Mapping[tuple[str, Scope], float],
        noted: Iterable[tuple[str, Scope]],
        published: float,
        now: float,
        *,
        origin: str,
        changes: Iterable[Change],
        position: StoredPosition,
    ) -> None:
        """Record unbans of a peer with the position of its stream, in one transaction.

        Args:
            exempt: as of `unban_many`.
            noted: subjects of which nothing is active: bans of before may still come.
            published: when the peer published them, by the wall clock here.
            now: wall clock.
            origin: of the peer, see `Decision`.
            changes: for the audit record.
            position: after them.
        """
        with self._database.transaction() as connection:
            for key in exempt:
                _remove(connection, key, now, origin)
            for key in (*exempt, *noted):
                until = exempt.get(key, 0.0)
                connection.execute(_RECORD_PEERS_UNBAN, (*key, published, until))
            for change in changes:
                audit.write(connection, change)
            record.positions(connection, [position])

    def unban_scope(self, scope: Scope, chunk: int = CHUNK) -> Iterator[list[Entry]]:
        """Remove the throttles and bans of a scope in chunks; yield them, `seconds` 0.

        Writes no history and resets nothing; `clear` does that at the end. The store can be
        written in between.
        """
        number = 0
        while True:
            with self._database.transaction() as connection:
                rows = connection.execute(_UNBAN_SCOPE, (number, scope, chunk)).fetchall()
            if not rows:
                return
            number = max(row[0] for row in rows)
            yield [Entry(subject, scope, action, 0.0) for _, subject, action in rows]

    def clear(self, now: float, scope: Scope | None = None) -> int:
        """Remove all throttles and bans and delete all offences; return how many were active.

        Writes no history. Good evidence, exemptions and the allowlist stay.
        """
        with self._database.transaction() as connection:
            counts = active.counts(connection, now)
            _clear(connection, scope, now)
        return sum(
            counts[one, action]
            for one in (SCOPES if scope is None else (scope,))
            for action in ACTIONS
            if action != "exempt"
        )

    def since(self) -> dict[str, dict[Scope, float]]:
        """Return from when on subjects count again, by subject ("" for everybody) and scope.

        At most the latest 100,000, for 30 days.
        """
        found: dict[str, dict[Scope, float]] = {}
        for subject, scope, at in self._database.rows(_LATEST, (_UNBANS,)):
            found.setdefault(subject, {})[scope] = at
        return found

    def all(self) -> dict[tuple[str, Scope], tuple[float, float]]:
        """Return when subjects were unbanned, and until when they are exempt ("" for all)."""
        rows = self._database.rows(_PENDING, (_UNBANS,))
        return {(subject, scope): (at, until) for subject, scope, at, until in rows}


def _unban(
    connection: sqlite3.Connection, key: tuple[str, Scope], now: float, exempt_until: float
) -> list[Entry]:
    """Remove a subject and delete its offences; return what was active."""
    removed = _remove(connection, key, now, "operator")
    connection.execute(_RECORD_UNBAN, (*key, now, exempt_until))
    return removed


def _remove(
    connection: sqlite3.Connection, key: tuple[str, Scope], now: float, origin: str
) -> list[Entry]:
    """Do the same without recording when; `origin`: whose unban it is."""
    rows = connection.execute(
        f"SELECT action {_SUBJECT} AND until > ?",
        (*key, now),
    ).fetchall()
    connection.execute(f"DELETE {_SUBJECT}", key)
    connection.execute("DELETE FROM offence WHERE subject = ? AND scope = ?", key)
    # What lists name of it would follow when another list no longer does.
    connection.execute("DELETE FROM listed WHERE subject = ? AND scope = ?", key)
    if rows:
        connection.execute(_RELEASED, (now, *key, origin))
        release = Decision(now, "release", *key, "operator", 0, now, "unbanned")
        hourly.decisions(connection, [release], now)
    return [Entry(*key, action, 0.0) for (action,) in rows]


def _clear(connection: sqlite3.Connection, scope: Scope | None, now: float) -> None:
    """Remove everything and delete all offences; exemptions by operators stay.

    Without a scope the tables are emptied as a whole, which SQLite does only where no trigger
    reads each row: a million in one second instead of ten.
    """
    for one in SCOPES if scope is None else (scope,):
        connection.execute(_RECORD_UNBAN, ("", one, now, 0.0))
    if scope is not None:
        connection.execute(_CLEAR_SCOPE, (scope,))
        connection.execute("DELETE FROM offence WHERE scope = ?", (scope,))
        connection.execute("DELETE FROM listed WHERE scope = ?", (scope,))
        return
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'active'"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(f"CREATE TEMP TABLE kept AS {_EXEMPT}")
    connection.execute("DELETE FROM active")
    connection.execute("DELETE FROM offence")
    connection.execute("DELETE FROM listed")
    connection.execute("UPDATE tally SET rows = 0 WHERE name NOT IN ('good', 'peak')")
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("INSERT INTO active SELECT * FROM temp.kept")
    connection.execute("DROP TABLE temp.kept")
