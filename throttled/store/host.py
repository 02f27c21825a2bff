"""Names of this host that were found in its log. Owns no state.

Limits: `HOSTS` names; the oldest are deleted first.
"""

from throttled.store.database import Database
from throttled.store.rows import Host, structs

HOSTS = 100

_ADD = """
INSERT INTO host (name, since) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET since = excluded.since
"""
_CAP = "DELETE FROM host WHERE name NOT IN (SELECT name FROM host ORDER BY since DESC LIMIT ?)"


class Hosts:
    """The table of names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, now: float) -> None:
        """Record a name under which this host's lines are in its log."""
        with self._database.transaction() as connection:
            connection.execute(_ADD, (name, now))
            connection.execute(_CAP, (HOSTS,))

    def names(self) -> frozenset[str]:
        """Return the names that `add` recorded."""
        rows = self._database.rows("SELECT name, since FROM host")
        return frozenset(host.name for host in structs(Host, rows, self._database.skipped))
