"""The peaks of clients within the windows of limits, for `suggest`. Owns no state.

A row is the highest value of one client, limit and window; writing it again changes nothing. It is
evicted when the client has not reached that value again for `MEMORY`. At `ROWS` rows only clients
with good evidence get a new one, at twice as many none does: strangers cannot displace good ones.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from throttled.model import Peak
from throttled.store.database import Database
from throttled.store.good import Good

ROWS = 300_000
_DAY = 86400.0
MEMORY = 30 * _DAY

# A value that is reached all the time is written once a day.
_WRITE = """
INSERT INTO peak (client, scope, "limit", count, within, value, at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE
        (SELECT rows FROM tally WHERE name = 'peak') < CASE WHEN
            EXISTS (SELECT 1 FROM good WHERE address = ?1) THEN 2 * ?8 ELSE ?8 END
        OR EXISTS (SELECT 1 FROM peak WHERE (client, scope, "limit", count, within)
            = (?1, ?2, ?3, ?4, ?5))
ON CONFLICT DO UPDATE SET value = excluded.value, at = excluded.at
    WHERE excluded.value > value OR excluded.value = value AND excluded.at > at + ?9
"""
_WATCHED = """
INSERT INTO watched (scope, "limit", count, within, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
    ON CONFLICT DO UPDATE SET until = excluded.until
"""
_READ = 'SELECT client, scope, "limit", count, within, value FROM peak WHERE at >= ?'
_TIMES = 'SELECT scope, "limit", count, within, since, until FROM watched WHERE until >= ?'
_GOOD = """
SELECT address, day, days, deliveries, logins, last_login FROM good
    WHERE address IN (SELECT client FROM peak)
"""

#: A limit in a scope: scope, name, what it counts, window in seconds.
Of = tuple[str, str, str, float]


class Kept(Struct):
    """What is kept of what clients reached."""

    highest: dict[Of, dict[str, int]]  # by limit, then client
    times: dict[Of, tuple[float, float]]  # wall clock, from when until when they were recorded
    good: dict[str, tuple[int, int]]  # (deliveries, logins) of the last 30 days, in any scope
    full: bool  # there was no room for more strangers


class Peaks:
    """The table of peaks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, reached: Sequence[Peak], watched: Iterable[Of], now: float) -> None:
        """Store peaks that are higher than before.

        Args:
            reached: the peaks.
            watched: the limits whose peaks are recorded, also those without one now.
            now: wall clock.
        """
        rows = sorted((p.client, p.scope, p.limit, p.count, p.within, p.value) for p in reached)
        with self._database.transaction() as connection:
            connection.executemany(_WATCHED, ((*of, now) for of in watched))
            connection.executemany(_WRITE, ((*row, now, ROWS, _DAY) for row in rows))

    def read(self, now: float) -> Kept:
        """Return all that clients reached in the last 30 days: up to a second."""
        kept = Kept({}, {}, {}, full=False)
        with self._database.guard() as connection:
            for row in connection.execute(_READ, (now - MEMORY,)):
                client, scope, limit, count, within, value = row
                kept.highest.setdefault((scope, limit, count, within), {})[client] = value
            for *of, since, until in connection.execute(_TIMES, (now - MEMORY,)):
                kept.times[of[0], of[1], of[2], of[3]] = since, until
            kept.full = sum(map(len, kept.highest.values())) >= ROWS
            for address, *columns in connection.execute(_GOOD):
                deliveries, _days, logins = Good(*columns).at(now)
                if deliveries or logins:
                    kept.good[address] = deliveries, logins
        return kept
