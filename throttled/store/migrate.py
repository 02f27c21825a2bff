"""The schema's versions: the list, the check of a database's version, and the upgrade.

The n-th file in `migrations/` leads from version n - 1 to version n. A file that was ever merged is
frozen (a test has its hash): a change is a new file. `0001.sql` was changed before that was so, and
databases of those days claim version 1 with less in them. What only lacks tables, indexes or
triggers is completed; one whose tables have other columns is refused. Owns no state.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from importlib import resources

Schema = dict[str, str]

_COMMENT = re.compile(r"--[^\n]*")
_CREATES = re.compile(r"CREATE \w+ (\w+)")
#: The version of which databases of several builds exist.
_AMBIGUOUS = 1


def scripts() -> list[str]:
    """Return the migrations in their order."""
    files = resources.files("throttled.store").joinpath("migrations").iterdir()
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]


def statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def differences(
    connection: sqlite3.Connection, version: int, migrations: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Compare a database with the schema of its version.

    Returns:
        Names of what is missing, and of what is there but otherwise. Additional tables and
        indexes are an operator's and no difference.
    """
    wanted = _wanted(migrations[:version])
    found = _schema(connection)
    missing = [name for name in wanted if name not in found]
    other = [name for name, sql in wanted.items() if name in found and found[name] != sql]
    return missing, other


def completable(version: int, other: Sequence[str]) -> bool:
    """Return whether a database that differs can be completed: see `complete`."""
    return version == _AMBIGUOUS and not other


def complete(connection: sqlite3.Connection, version: int, migrations: Sequence[str]) -> None:
    """Create what an earlier build of this version did not have; inside the caller's transaction.

    Args:
        connection: of the database.
        version: see `completable`.
        migrations: see `scripts`.
    """
    missing, _ = differences(connection, version, migrations)
    for statement in statements(migrations[version - 1]):
        bare = _bare(statement)
        created = _CREATES.match(bare)
        if bare.startswith("INSERT "):
            connection.execute(bare.replace("INSERT", "INSERT OR IGNORE", 1))
        elif created is not None and created[1] in missing:
            connection.execute(statement)


def _wanted(migrations: Sequence[str]) -> Schema:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for script in migrations:
            connection.executescript(script)
        return _schema(connection)
    finally:
        connection.close()


def _schema(connection: sqlite3.Connection) -> Schema:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: _bare(sql) for name, sql in rows}


def _bare(sql: str) -> str:
    """Return a statement without comments and line breaks, which may differ."""
    return " ".join(_COMMENT.sub("", sql).split())
