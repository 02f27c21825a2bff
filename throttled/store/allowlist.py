"""The allowlist: subjects, host-name suffixes, and host names by their addresses. Owns no state.

Limits: `ALLOWED` entries, see also `throttled.store.names`; one more is refused.
"""

import sqlite3
from collections.abc import Sequence

from throttled.errors import RefusedError
from throttled.store import names
from throttled.store.database import Database
from throttled.store.names import ALLOWED
from throttled.store.rows import Allowed, clip, structs

_ALLOW = """
INSERT INTO allowed (what, until, note, since, origin) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (what) DO UPDATE SET
    until = excluded.until, note = excluded.note, since = excluded.since, origin = excluded.origin
"""
_ENTRIES = """
SELECT what, until, note, since, '', 0.0, origin FROM allowed
    WHERE until = 0 OR until > ? ORDER BY what
"""


class Allowlist:
    """The table of entries, and that of the addresses of names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def allow(self, what: str, until: float, note: str, now: float) -> None:
        """Put a subject or host-name suffix on the allowlist; `until` 0.0 = for ever.

        Raises:
            RefusedError: the list is full.
        """
        with self._database.transaction() as connection:
            _allow(connection, Allowed(what, until, note, now))

    def resolve(
        self, name: str, addresses: Sequence[str], kept: tuple[float, str] | None, now: float
    ) -> tuple[list[str], list[str]]:
        """Put a host name on the allowlist by its addresses; see `throttled.store.names`.

        Args:
            name: the host name.
            addresses: what DNS returned.
            kept: until when (0.0 = no end), and the note; None: as they are, of a name that is
                there.
            now: wall clock.

        Returns:
            Addresses added, and removed.

        Raises:
            RefusedError: the list is full, or the name is not there.
        """
        with self._database.transaction() as connection:
            if kept is None:
                return names.refreshed(connection, name, addresses, now)
            return names.put(connection, name, addresses, kept, now)

    def disallow(self, what: str) -> bool:
        """Remove an entry, or a name's addresses, from the allowlist; return whether it existed."""
        with self._database.transaction() as connection:
            # Both: an entry and a name may be the same.
            entry = connection.execute("DELETE FROM allowed WHERE what = ?", (what,)).rowcount > 0
            return entry | names.remove(connection, what)

    def entries(self, now: float) -> list[Allowed]:
        """Return the allowlist without what expired, and the addresses of its names."""
        skipped = self._database.skipped
        with self._database.guard() as connection:
            return [
                *structs(Allowed, connection.execute(_ENTRIES, (now,)), skipped),
                *names.rows(connection, now, skipped=skipped),
            ]


def _allow(connection: sqlite3.Connection, entry: Allowed) -> None:
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
