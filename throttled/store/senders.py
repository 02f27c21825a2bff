"""What senders did, and which crossed a limit. Inside the caller's transaction; owns no state.

Limits: `DAYS`; `SENDERS` rows of a day, further senders of it are not stored; `REPORTS` reports,
the oldest are deleted when the next is written.
"""

import sqlite3
from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from throttled import subjects
from throttled.model import Report, SenderDay, SenderRow
from throttled.skipped import Skipped
from throttled.store.good import day_of
from throttled.store.rows import clip, structs

DAYS = 35
SENDERS = 100_000
REPORTS = 100_000
#: Senders whose highest day is read: those with the most recipients.
HIGHEST = 50_000

_DAY = 86400.0
_WRITE = """
INSERT INTO sender_report (time, subject, "limit", count, value, threshold, within, shown, above)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_PRUNE_REPORTS = """
DELETE FROM sender_report WHERE time < ? OR number <= (SELECT max(number) FROM sender_report) - ?
"""
_READ = """
SELECT time, subject, "limit", count, value, threshold, within, shown, above FROM sender_report
    WHERE time >= ?1 AND (?2 = '' OR subject = ?2) ORDER BY number DESC LIMIT ?3
"""
_MORE = """
UPDATE sender_day SET messages = messages + ?3, recipients = recipients + ?4, bytes = bytes + ?5,
    bounces = bounces + ?6, deferrals = deferrals + ?7, received = received + ?8
    WHERE subject = ?1 AND day = ?2
"""
_ADD = "INSERT INTO sender_day VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ROWS = "SELECT count(*) FROM sender_day WHERE day = ?"
_OF = """
SELECT subject, day, messages, recipients, bytes, bounces, deferrals, received FROM sender_day
    WHERE subject = ? ORDER BY day
"""
_DAYS = "SELECT DISTINCT day FROM sender_day WHERE typeof(day) = 'integer' ORDER BY day"
_IN_DAY = """
SELECT subject, day, messages, recipients, bytes, bounces, deferrals, received FROM sender_day
    WHERE day = ?
"""
_PRUNE_DAYS = """
DELETE FROM sender_day WHERE (subject, day) IN (
    SELECT subject, day FROM sender_day WHERE day < ? LIMIT ?)
"""
_REMOVE = 'DELETE FROM sender_report WHERE "limit" NOT IN (SELECT value FROM json_each(?))'
_DAY_OF_ALL = """
SELECT subject, sum((day = ?1) * messages), sum((day = ?1) * recipients), sum((day = ?1) * bytes),
    sum((day = ?1) * bounces), sum((day = ?1) * deferrals),
    CAST(coalesce(avg(CASE WHEN day < ?1 THEN recipients END), 0) AS INTEGER),
    coalesce(max(CASE WHEN day < ?1 THEN recipients END), 0), sum((day = ?1) * received)
    FROM sender_day WHERE day <= ?1 AND (?2 = '' OR instr(subject, ?2) > 0) GROUP BY subject
"""
_HIGHEST = """
SELECT subject, max(recipients) FROM sender_day WHERE day < ?
    GROUP BY subject ORDER BY 2 DESC LIMIT ?
"""


def report(connection: sqlite3.Connection, reports: Sequence[Report]) -> None:
    """Add reports, and delete the oldest."""
    for one in reports:
        row = [clip(value) if isinstance(value, str) else value for value in astuple(one)]
        connection.execute(_WRITE, row)
    latest = max((one.time for one in reports), default=0.0)
    connection.execute(_PRUNE_REPORTS, (latest - DAYS * _DAY, REPORTS))


def reports(
    connection: sqlite3.Connection, since: float, subject: str, count: int, skipped: Skipped
) -> list[Report]:
    """Return reports not before `since`, of one subject or all (""), the latest first."""
    return structs(Report, connection.execute(_READ, (since, subject, count)), skipped)


def add(connection: sqlite3.Connection, days: Sequence[SenderDay]) -> None:
    """Add to what senders did in a day."""
    known: dict[int, int] = {}
    for one in days:
        row = (clip(one.subject), *astuple(one)[1:])
        if connection.execute(_MORE, row).rowcount:
            continue
        if one.day not in known:
            (known[one.day],) = connection.execute(_ROWS, (one.day,)).fetchone()
        if known[one.day] < SENDERS:
            connection.execute(_ADD, row)
            known[one.day] += 1


def days(connection: sqlite3.Connection, subject: str, skipped: Skipped) -> list[SenderDay]:
    """Return the days of a sender, the first first."""
    return structs(SenderDay, connection.execute(_OF, (subject,)), skipped)


def stored_days(connection: sqlite3.Connection) -> list[int]:
    """Return the days (since the epoch) that have rows, the first first."""
    return [day for (day,) in connection.execute(_DAYS)]


def in_day(connection: sqlite3.Connection, day: int, skipped: Skipped) -> list[SenderDay]:
    """Return what each sender did in a day (since the epoch)."""
    return structs(SenderDay, connection.execute(_IN_DAY, (day,)), skipped)


def of_day(
    connection: sqlite3.Connection, day: int, text: str, kind: str, skipped: Skipped
) -> list[SenderRow]:
    """Return what senders did in a day.

    Args:
        connection: of the database.
        day: since the epoch.
        text: only those in whose subject it is, case-folded; "": all.
        kind: only those of it (`subjects.Of`); "": all.
        skipped: records rows that another program altered.
    """
    rows = structs(SenderRow, connection.execute(_DAY_OF_ALL, (day, text)), skipped)
    return [row for row in rows if not kind or subjects.of(row.subject) == kind]


def forget(connection: sqlite3.Connection, limits: Sequence[str]) -> None:
    """Delete all days, and all reports but those of some limits."""
    connection.execute("DELETE FROM sender_day")
    connection.execute(_REMOVE, (msgspec.json.encode(limits).decode(),))


def highest(connection: sqlite3.Connection, before: int) -> dict[str, int]:
    """Return the most recipients that each sender had in a day before a day since the epoch."""
    return dict(connection.execute(_HIGHEST, (before, HIGHEST)).fetchall())


def prune(connection: sqlite3.Connection, now: float, batch: int) -> int:
    """Delete at most `batch` days that are too old; return how many."""
    return connection.execute(_PRUNE_DAYS, (day_of(now) - DAYS, batch)).rowcount
