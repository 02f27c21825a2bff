"""What operators change: unban, exempt, allow. Inside the caller's transaction, but `unban_scope`.

Owns no state. Limits: `ALLOWED` entries on the allowlist; one more is refused.
"""

import sqlite3
from collections.abc import Iterator

from throttled.errors import RefusedError
from throttled.model import SCOPES, Decision, Entry, Scope
from throttled.skipped import Skipped
from throttled.store import hourly
from throttled.store.database import Database
from throttled.store.rows import Allowed, clip, structs

ALLOWED = 10_000

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
_UNBAN_SCOPE = """
DELETE FROM active WHERE number IN
    (SELECT number FROM active WHERE number > ?1 AND scope = ?2 AND action <> 'exempt'
        ORDER BY number LIMIT ?3)
RETURNING number, subject, action
"""
_EXEMPT = "SELECT * FROM active WHERE action = 'exempt'"
_UNBANS = "SELECT subject, scope, at FROM pardon ORDER BY at DESC LIMIT ?"
_PENDING = "SELECT subject, scope, at, until FROM pardon ORDER BY at LIMIT ?"
_ALLOW = """
INSERT INTO allowed (what, until, note, since, origin) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (what) DO UPDATE SET
    until = excluded.until, note = excluded.note, since = excluded.since, origin = excluded.origin
"""


def unban(
    connection: sqlite3.Connection, key: tuple[str, Scope], now: float, exempt_until: float
) -> list[Entry]:
    """Remove a subject and delete its offences; return what was active."""
    removed = remove(connection, key, now)
    connection.execute(_RECORD_UNBAN, (*key, now, exempt_until))
    return removed


def remove(
    connection: sqlite3.Connection, key: tuple[str, Scope], now: float, origin: str = "operator"
) -> list[Entry]:
    """Remove a subject and delete its offences, but do not record an unban.

    Args:
        connection: in a transaction.
        key: subject and scope.
        now: wall clock.
        origin: whose unban it is.
    """
    rows = connection.execute(
        "SELECT action FROM active WHERE subject = ? AND scope = ? AND until > ?", (*key, now)
    ).fetchall()
    connection.execute("DELETE FROM active WHERE subject = ? AND scope = ?", key)
    connection.execute("DELETE FROM offence WHERE subject = ? AND scope = ?", key)
    if rows:
        connection.execute(_RELEASED, (now, *key, origin))
        release = Decision(now, "release", *key, "operator", 0, now, "unbanned")
        hourly.decisions(connection, [release], now)
    return [Entry(*key, action, 0.0) for (action,) in rows]


def note_unban(
    connection: sqlite3.Connection, key: tuple[str, Scope], published: float, until: float = 0.0
) -> None:
    """Record when a peer unbanned a subject: bans that were published before have no effect."""
    connection.execute(_RECORD_PEERS_UNBAN, (*key, published, until))


def unban_scope(database: Database, scope: Scope, chunk: int) -> Iterator[list[Entry]]:
    """Remove a scope, `chunk` rows at a time; yield what was active."""
    number = 0
    while True:
        with database.transaction() as connection:
            rows = connection.execute(_UNBAN_SCOPE, (number, scope, chunk)).fetchall()
        if not rows:
            return
        number = max(row[0] for row in rows)
        yield [Entry(subject, scope, action, 0.0) for _, subject, action in rows]


def clear(connection: sqlite3.Connection, scope: Scope | None, now: float) -> None:
    """Remove everything and delete all offences; exemptions stay.

    Without a scope the tables are emptied as a whole, which SQLite does only where no trigger
    reads each row: a million in one second instead of ten.
    """
    for one in SCOPES if scope is None else (scope,):
        connection.execute(_RECORD_UNBAN, ("", one, now, 0.0))
    if scope is not None:
        connection.execute("DELETE FROM active WHERE scope = ? AND action <> 'exempt'", (scope,))
        connection.execute("DELETE FROM offence WHERE scope = ?", (scope,))
        return
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'active'"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(f"CREATE TEMP TABLE kept AS {_EXEMPT}")
    connection.execute("DELETE FROM active")
    connection.execute("DELETE FROM offence")
    connection.execute("UPDATE tally SET rows = 0 WHERE name NOT IN ('good', 'peak')")
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("INSERT INTO active SELECT * FROM temp.kept")
    connection.execute("DROP TABLE temp.kept")


def unbanned_since(connection: sqlite3.Connection, most: int) -> dict[str, dict[Scope, float]]:
    """Return from when on subjects count, by subject ("" for everybody) and scope; the latest."""
    found: dict[str, dict[Scope, float]] = {}
    for subject, scope, at in connection.execute(_UNBANS, (most,)):
        found.setdefault(subject, {})[scope] = at
    return found


def unbans(
    connection: sqlite3.Connection, most: int
) -> dict[tuple[str, Scope], tuple[float, float]]:
    """Return when subjects were unbanned and until when they are exempt."""
    rows = connection.execute(_PENDING, (most,))
    return {(subject, scope): (at, until) for subject, scope, at, until in rows}


def allow(connection: sqlite3.Connection, entry: Allowed) -> None:
    """Put an entry on the allowlist, or change it."""
    (others,) = connection.execute(
        "SELECT count(*) FROM allowed WHERE what <> ?", (entry.what,)
    ).fetchone()
    if others >= ALLOWED:
        raise RefusedError(
            f"{ALLOWED} entries are on the allowlist already",
            "write networks instead of addresses, or use protect.networks in the configuration",
        )
    connection.execute(
        _ALLOW, (entry.what, entry.until, clip(entry.note), entry.since, entry.origin)
    )


def disallow(connection: sqlite3.Connection, what: str) -> bool:
    """Take an entry from the allowlist; return whether it was there."""
    return connection.execute("DELETE FROM allowed WHERE what = ?", (what,)).rowcount > 0


def allowed(connection: sqlite3.Connection, now: float, skipped: Skipped) -> list[Allowed]:
    """Return the allowlist, without what expired."""
    rows = connection.execute(
        "SELECT what, until, note, since, '', 0.0, origin FROM allowed"
        " WHERE until = 0 OR until > ? ORDER BY what",
        (now,),
    )
    return structs(Allowed, rows, skipped)
