"""What happened in each hour, for reports. Owns no state.

A row counts sessions, deliveries, logins or decisions of an hour (UTC) and scope, or the packets
dropped in an hour. Decisions are counted in the transaction that records them, sessions, deliveries
and logins in the one that records how far the logs were read, drops as the difference of the
kernel's counter to what it was when it was last recorded: a kill loses and doubles nothing.

Limits: `DAYS`; of an hour about `ROWS` rows, further limits are counted together as "".
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from throttled.model import Activity, Decision, Scope
from throttled.store.database import Database
from throttled.store.rows import structs

HOUR = 3600
DAYS = 400
ROWS = 500

#: Hour since the epoch, scope, what, kind, limit: the key of the table.
Key = tuple[int, str, str, str, str]

_ADD = """
INSERT INTO hourly (hour, scope, what, kind, "limit", count) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_MORE = """
UPDATE hourly SET count = count + ?
    WHERE (hour, scope, what, kind, "limit") = (?, ?, ?, ?, ?)
"""
_COUNT = "SELECT count(*) FROM hourly WHERE hour = ?"
_READ = """
SELECT hour * 3600.0, scope, what, kind, "limit", count FROM hourly
    WHERE hour >= ? AND hour * 3600.0 < ? ORDER BY hour, scope, what, kind, "limit"
"""
_TOTALS = """
SELECT hour * 3600.0, what, kind, sum(count) FROM hourly WHERE hour >= ? GROUP BY hour, what, kind
"""
_COUNTER = "SELECT CAST(value AS INTEGER) FROM known WHERE name = 'dropped'"
_KEEP = "REPLACE INTO known (name, time, value) VALUES ('dropped', ?, CAST(? AS BLOB))"


class Hourly(Struct, frozen=True):
    """How often something happened in an hour."""

    begin: float  # of the hour, wall clock
    scope: Scope | Literal[""]  # "" of drops: the kernel counts them together
    what: Literal["session", "delivery", "login", "decision", "drop", "overload"]
    kind: str  # of a decision its action, else ""
    limit: str  # of a decision, else ""
    count: int


class Hours:
    """The table of hours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count_drops(self, counter: int, now: float) -> None:
        """Add what the kernel dropped since the last call, also by a daemon before this one.

        Args:
            counter: the kernel's, which begins at 0 when the table is recreated. What it says at
                the first call of all was dropped at times that are not known.
            now: wall clock.
        """
        with self._database.transaction() as connection:
            row = connection.execute(_COUNTER).fetchone()
            before = counter if row is None else int(row[0])
            dropped = counter - before if counter >= before else counter
            if dropped:
                _add(connection, {(_hour(now), "", "drop", "", ""): dropped}, now)
            if dropped or row is None:
                connection.execute(_KEEP, (now, str(counter)))

    def read(self, since: float, until: float) -> list[Hourly]:
        """Return what happened, by hour, from the hour of `since` to before `until`."""
        rows = self._database.rows(_READ, (_hour(since), until))
        return structs(Hourly, rows, self._database.skipped)

    def totals(self, since: float) -> list[tuple[float, str, str, int]]:
        """Return begin, what, kind and count of all scopes and limits, from an hour on."""
        rows = self._database.rows(_TOTALS, (_hour(since),))
        return [(begin, what, kind, n) for begin, what, kind, n in rows if isinstance(n, int)]


def decisions(connection: sqlite3.Connection, batch: Iterable[Decision], now: float) -> None:
    """Count decisions in the transaction that records them, each in the hour it was made in."""
    counts: Counter[Key] = Counter(
        (_hour(d.time), d.scope, "decision", d.action, d.limit) for d in batch
    )
    _add(connection, counts, now)


def activity(connection: sqlite3.Connection, counts: Mapping[Activity, int], now: float) -> None:
    """Add sessions, deliveries and logins, inside a transaction."""
    keys: dict[Key, int] = {
        (hour, scope, what, "", ""): n for (hour, scope, what), n in counts.items()
    }
    _add(connection, keys, now)


def oldest(now: float) -> int:
    """Return the first hour that is retained."""
    return _hour(now) - DAYS * 24


def _add(connection: sqlite3.Connection, counts: Mapping[Key, int], now: float) -> None:
    """Add to the rows; what is later than now is of this hour, what is too old is left out."""
    latest, first = _hour(now), oldest(now)
    rows: Counter[Key] = Counter()
    for (hour, *rest, limit), count in counts.items():
        if hour >= first:
            scope, what, kind = rest
            rows[min(hour, latest), scope, what, kind, limit] += count
    for key, count in rows.items():
        if connection.execute(_MORE, (count, *key)).rowcount == 0:
            (known,) = connection.execute(_COUNT, key[:1]).fetchone()
            limit = key[-1] if known < ROWS else ""
            connection.execute(_ADD, (*key[:-1], limit, count))


def _hour(time: float) -> int:
    return int(time // HOUR)
