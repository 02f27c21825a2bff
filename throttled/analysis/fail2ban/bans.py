"""The bans in fail2ban's database (SQLite; fail2ban 0.9 and later). Owns no state.

The database is opened read-only and never changed; fail2ban may be running.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from throttled import address
from throttled.analysis.fail2ban.jails import PERMANENT
from throttled.errors import SourceError

#: `bips` has what is banned (0.11); before that `bans` was all there is, without the ban's length.
_TABLES = {
    "bips": "SELECT ip, jail, timeofban, bantime FROM bips WHERE jail IN ({})",
    "bans": "SELECT ip, jail, max(timeofban), NULL FROM bans WHERE jail IN ({}) GROUP BY ip, jail",
}
_MOST = 1_000_000


class OldBan(Struct, frozen=True):
    """A ban of fail2ban that is active."""

    subject: str  # canonical
    jail: str
    since: float  # wall clock
    until: float | None  # None: permanent


def read(path: str, jails: Collection[str], lengths: dict[str, float], now: float) -> list[OldBan]:
    """Return the active bans of some jails, a subject once, with its latest end.

    Args:
        path: of the database.
        jails: their names.
        lengths: of bans by jail, seconds; where the database does not say.
        now: wall clock.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        Path(path).stat()
        uri = Path(path).absolute().as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            query = next((text for table, text in _TABLES.items() if table in names), None)
            if query is None:
                raise SourceError(f"{path} is no database of fail2ban", "name it with --database")
            named = query.format(", ".join("?" * len(jails)))
            rows = connection.execute(f"{named} LIMIT {_MOST}", [*jails]).fetchall()
    except OSError as error:
        hint = "name it with --database, or run as root"
        raise SourceError(f"cannot read {path}: {error.strerror}", hint) from error
    except sqlite3.Error as error:
        raise SourceError(f"cannot read {path}: {error}", "is it fail2ban's?") from error
    found: dict[str, OldBan] = {}
    for ip, jail, since, length in rows:
        ban = _ban(str(ip), str(jail), since, lengths.get(jail, 0.0) if length is None else length)
        if ban is None or (ban.until is not None and ban.until <= now):
            continue
        known = found.get(ban.subject)
        if known is None or _end(ban) > _end(known):
            found[ban.subject] = ban
    return sorted(found.values(), key=lambda ban: (ban.jail, ban.subject))


def _ban(ip: str, jail: str, since: float, length: float) -> OldBan | None:
    try:
        subject = address.subject(ip)
        return OldBan(subject, jail, since, None if length == PERMANENT else since + float(length))
    except (TypeError, ValueError):  # a host name, or an id of another kind
        return None


def _end(ban: OldBan) -> float:
    return float("inf") if ban.until is None else ban.until
