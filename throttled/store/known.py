"""Values under a name, which other rooms retain. Owns no state."""

from throttled.store.database import Database

_GET = "SELECT value FROM known WHERE name = ? AND typeof(value) = 'blob'"


class Known:
    """The table of values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> bytes | None:
        """Return what `put` retained under a name; None for nothing."""
        return next((bytes(value) for (value,) in self._database.rows(_GET, (name,))), None)

    def put(self, name: str, value: bytes, now: float) -> None:
        """Retain a value under a name, in place of the one before."""
        with self._database.transaction() as connection:
            connection.execute("REPLACE INTO known VALUES (?, ?, ?)", (name, now, value))
