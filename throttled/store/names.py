"""Host names on the allowlist by their addresses; inside the caller's transaction. Owns no state.

The names are resolved by a command, never by the daemon. An address that DNS no longer returns is
retained for `GRACE` seconds, as large senders return another part of their addresses each time.
Limits: `ADDRESSES` of a name, those missing longest are deleted first; names and entries together
`ALLOWED`.
"""

import sqlite3
from collections.abc import Sequence

from throttled.errors import RefusedError
from throttled.skipped import Skipped
from throttled.store.rows import Allowed, clip, structs

ALLOWED = 10_000
GRACE = 86400.0
ADDRESSES = 64

_ROWS = """
SELECT address, until, note, since, name, missing FROM resolved
    WHERE (?1 IS NULL OR name = ?1) AND (until = 0 OR until > ?2) ORDER BY name, address
"""
_PUT = """
INSERT INTO resolved (name, address, until, note, since, missing) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT (name, address) DO UPDATE SET
    until = excluded.until, note = excluded.note, missing = 0
"""
_MISSING = "UPDATE resolved SET missing = ? WHERE name = ? AND address = ? AND missing = 0"
_DELETE = "DELETE FROM resolved WHERE name = ? AND address = ?"


def rows(
    connection: sqlite3.Connection,
    now: float,
    name: str | None = None,
    skipped: Skipped | None = None,
) -> list[Allowed]:
    """Return the addresses of one name or all, without those whose time ended.

    Args:
        connection: of the database.
        now: wall clock.
        name: the host name; None: all.
        skipped: counts the rows that cannot be used.
    """
    found = connection.execute(_ROWS, (name, now))
    return structs(Allowed, found, Skipped() if skipped is None else skipped)


def refreshed(
    connection: sqlite3.Connection, name: str, addresses: Sequence[str], now: float
) -> tuple[list[str], list[str]]:
    """Take what DNS returned for a name on the allowlist; return what was added and removed.

    Raises:
        RefusedError: the name is not on the allowlist.
    """
    before = rows(connection, now, name)
    if not before:
        raise RefusedError(f"{name} is not allowed by its addresses", "throttled allow --resolve")
    return put(connection, name, addresses, (before[0].until, before[0].note), now)


def put(
    connection: sqlite3.Connection,
    name: str,
    addresses: Sequence[str],
    kept: tuple[float, str],
    now: float,
) -> tuple[list[str], list[str]]:
    """Put a name on the allowlist by its addresses, or change it; return what changed.

    Args:
        connection: of the database.
        name: the host name.
        addresses: what DNS returned, at most `ADDRESSES`.
        kept: until when (0.0 = no end), and the note.
        now: wall clock.

    Returns:
        Addresses added, and removed.

    Raises:
        RefusedError: the list is full.
    """
    until, note = kept
    before = {row.what: row for row in rows(connection, now, name)}
    added = [address for address in addresses if address not in before]
    if added and _count(connection) + len(added) > ALLOWED:
        raise RefusedError(f"{ALLOWED} entries are on the allowlist already")
    for address in addresses:
        connection.execute(_PUT, (name, address, until, clip(note), now))
    missing = sorted(
        (row for what, row in before.items() if what not in addresses),
        key=lambda row: row.missing or now,
    )
    over = len(missing) + len(addresses) - ADDRESSES
    removed = []
    for number, row in enumerate(missing):
        if number < over or 0 < row.missing <= now - GRACE:
            connection.execute(_DELETE, (name, row.what))
            removed.append(row.what)
        else:
            connection.execute(_MISSING, (now, name, row.what))
    return added, removed


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Take a name from the allowlist; return whether it was there."""
    return connection.execute("DELETE FROM resolved WHERE name = ?", (name,)).rowcount > 0


def _count(connection: sqlite3.Connection) -> int:
    query = "SELECT (SELECT count(*) FROM allowed) + (SELECT count(*) FROM resolved)"
    (count,) = connection.execute(query).fetchone()
    return int(count)
