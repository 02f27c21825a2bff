"""Clients by the beginning of their address. Inside the caller's transaction; owns no state."""

import sqlite3

_FIND = """
SELECT address, deliveries, logins FROM good WHERE address >= ?1 AND address < ?2
UNION ALL
SELECT subject, 0, 0 FROM active
    WHERE subject >= ?1 AND subject < ?2 AND until > ?3 AND subject NOT IN (
        SELECT address FROM good WHERE address >= ?1 AND address < ?2)
LIMIT ?4
"""


def clients(connection: sqlite3.Connection, begin: str, now: float, count: int) -> dict[str, str]:
    """Return addresses and networks that begin with a text, with what good they did, for people.

    Args:
        connection: of the database.
        begin: how they begin.
        now: wall clock; what ended before is not active.
        count: how many at most.
    """
    found = connection.execute(_FIND, (begin, begin + "\x7f", now, count))
    return {
        subject: f"{deliveries} messages delivered, {logins} logins" if deliveries or logins else ""
        for subject, deliveries, logins in found
    }
