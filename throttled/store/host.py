"""Names of this host that were found in its log. Inside the caller's transaction; owns no state.

Limits: `HOSTS` names; the oldest are deleted first.
"""

import sqlite3

from throttled.skipped import Skipped
from throttled.store.rows import Host, structs

HOSTS = 100

_ADD = """
INSERT INTO host (name, since) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET since = excluded.since
"""
_CAP = "DELETE FROM host WHERE name NOT IN (SELECT name FROM host ORDER BY since DESC LIMIT ?)"


def add(connection: sqlite3.Connection, name: str, now: float) -> None:
    """Record a name."""
    connection.execute(_ADD, (name, now))
    connection.execute(_CAP, (HOSTS,))


def names(connection: sqlite3.Connection, skipped: Skipped) -> frozenset[str]:
    """Return the names."""
    rows = connection.execute("SELECT name, since FROM host")
    return frozenset(host.name for host in structs(Host, rows, skipped))
