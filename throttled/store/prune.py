"""Deleting what is old, or more than the caps. Inside the caller's transaction; owns no state.

One call deletes at most `BATCH` rows of each table, in 25 ms at worst. At a cap are deleted
first: the oldest decisions, offences and unbans; the good evidence not updated for longest; the
active entries that expire soonest (they stay in the kernel, but a restart would not restore them).
"""

import sqlite3

from throttled.store import hourly, peaks, senders
from throttled.store.good import MEMORY, day_of
from throttled.store.listed import Claims

BATCH = 500

#: Rows, at most (and what came since the last call).
DECISIONS = 2_000_000
ACTIVE = 2_000_000
GOOD = 1_000_000
SOURCES = 10_000
#: Of unbans whose exemption is over; no more are read at a start.
UNBANS = 100_000

_DAY = 86400.0
#: Kept after the end, so that `ended` finds it.
_GRACE = 3600.0
_HISTORY = 90 * _DAY
#: No limit's window is longer than the logs that are read at a start.
_UNBANS_KEPT = 30 * _DAY
_OFFENCES = 180 * _DAY

# The latest decision stays: numbers are never used twice.
_DECISIONS = """
DELETE FROM decision WHERE number IN (SELECT number FROM decision ORDER BY number LIMIT ?1)
    AND (time < ?2 OR number <= ?3) AND number < ?4
"""
# An offence longer ago than the oldest decision that the cap leaves goes too: this is its cap.
_OFFENCES_GONE = """
DELETE FROM offence WHERE number IN (SELECT number FROM offence ORDER BY number LIMIT ?1)
    AND (banned < ?2 OR number <= ?3)
"""
_ENDED = """
DELETE FROM active WHERE number IN (SELECT number FROM active
    WHERE until <= ?2 ORDER BY until LIMIT ?1)
"""
_OLD_GOOD = """
DELETE FROM good WHERE address IN (SELECT address FROM good
    WHERE seen <= ?2 ORDER BY seen LIMIT ?1)
"""
_PEAKS = """
DELETE FROM peak WHERE (client, scope, "limit", count, within) IN (
    SELECT client, scope, "limit", count, within FROM peak WHERE at < ?2 ORDER BY at LIMIT ?1)
"""
_OLD_UNBANS = """
DELETE FROM pardon WHERE (subject, scope) IN (SELECT subject, scope FROM pardon
    WHERE at < max(?2, coalesce((SELECT at FROM pardon ORDER BY at DESC LIMIT 1 OFFSET ?4 - 1), 0))
    AND until <= ?3 ORDER BY at LIMIT ?1)
"""
_HOURS = """
DELETE FROM hourly WHERE (hour, scope, what, kind, "limit") IN (
    SELECT hour, scope, what, kind, "limit" FROM hourly WHERE hour < ?2 ORDER BY hour LIMIT ?1)
"""
_ROWS = "SELECT coalesce(sum(rows), 0) FROM tally WHERE name <> 'peak' AND (name = 'good') = ?"
_FOREVER = 1e300


def prune(connection: sqlite3.Connection, now: float, claims: Claims) -> bool:
    """Delete at most `BATCH` rows of each table; return whether there may be more to delete."""
    (latest,) = connection.execute("SELECT coalesce(max(number), 0) FROM decision").fetchone()
    over = latest - DECISIONS
    history = (BATCH, now - _HISTORY, over, latest)
    offences = (BATCH, now - _OFFENCES, over)
    deleted = [
        connection.execute(_DECISIONS, history).rowcount,
        connection.execute(_OFFENCES_GONE, offences).rowcount,
        connection.execute(_ENDED, (BATCH, now - _GRACE)).rowcount,
        connection.execute(_ENDED, (_excess(connection, ACTIVE, good=False), _FOREVER)).rowcount,
        connection.execute(_OLD_GOOD, (BATCH, day_of(now) - MEMORY)).rowcount,
        connection.execute(_PEAKS, (BATCH, now - peaks.MEMORY)).rowcount,
        senders.prune(connection, now, BATCH),
        claims.prune(connection, now, BATCH),
        connection.execute(_HOURS, (BATCH, hourly.oldest(now))).rowcount,
        connection.execute(_OLD_UNBANS, (BATCH, now - _UNBANS_KEPT, now, UNBANS)).rowcount,
        connection.execute(_OLD_GOOD, (_excess(connection, GOOD, good=True), _FOREVER)).rowcount,
    ]
    connection.execute("DELETE FROM watched WHERE until < ?", (now - peaks.MEMORY,))
    connection.execute("DELETE FROM allowed WHERE until <> 0 AND until <= ?", (now,))
    connection.execute("DELETE FROM resolved WHERE until <> 0 AND until <= ?", (now,))
    connection.execute(
        "DELETE FROM source WHERE number <= (SELECT max(number) FROM source) - ?", (SOURCES,)
    )
    return max(deleted) >= BATCH


def _excess(connection: sqlite3.Connection, cap: int, *, good: bool) -> int:
    (rows,) = connection.execute(_ROWS, (good,)).fetchone()
    return int(min(BATCH, max(0, rows - cap)))
