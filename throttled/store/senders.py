"""What senders did, and which crossed a limit. Owns no state.

Limits: `DAYS`; `SENDERS` rows of a day, further senders of it are not stored; `REPORTS` reports,
the oldest are deleted when the next is written.
"""

import sqlite3
from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from throttled import subjects
from throttled.model import Report, SenderDay, SenderRow
from throttled.store.database import Database
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


class Senders:
    """The tables of senders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._skipped = database.skipped

    def report(self, reports: Sequence[Report]) -> None:
        """Record senders that crossed a limit, and delete the oldest reports."""
        latest = max((one.time for one in reports), default=0.0)
        with self._database.transaction() as connection:
            for one in reports:
                row = [clip(value) if isinstance(value, str) else value for value in astuple(one)]
                connection.execute(_WRITE, row)
            connection.execute(_PRUNE_REPORTS, (latest - DAYS * _DAY, REPORTS))

    def reports(self, since: float = 0.0, subject: str = "", count: int = 100) -> list[Report]:
        """Return reports not before `since`, of one subject or all (""), the latest first."""
        return structs(Report, self._database.rows(_READ, (since, subject, count)), self._skipped)

    def add(self, days: Sequence[SenderDay]) -> None:
        """Add to what senders did in a day."""
        known: dict[int, int] = {}
        with self._database.transaction() as connection:
            for one in days:
                row = (clip(one.subject), *astuple(one)[1:])
                if connection.execute(_MORE, row).rowcount:
                    continue
                if one.day not in known:
                    (known[one.day],) = connection.execute(_ROWS, (one.day,)).fetchone()
                if known[one.day] < SENDERS:
                    connection.execute(_ADD, row)
                    known[one.day] += 1

    def days(self, subject: str) -> list[SenderDay]:
        """Return what a sender did in each day that is stored, the first day first."""
        return structs(SenderDay, self._database.rows(_OF, (subject,)), self._skipped)

    def stored_days(self) -> list[int]:
        """Return the days (since the epoch) of which there are senders, the first first."""
        return [day for (day,) in self._database.rows(_DAYS)]

    def in_day(self, day: int) -> list[SenderDay]:
        """Return what each sender did in a day (since the epoch)."""
        return structs(SenderDay, self._database.rows(_IN_DAY, (day,)), self._skipped)

    def of_day(self, day: int, text: str = "", kind: str = "") -> list[SenderRow]:
        """Return what senders did in a day.

        Args:
            day: since the epoch.
            text: only those in whose subject it is, case-folded; "": all.
            kind: only those of it (`subjects.Of`); "": all.
        """
        rows = structs(SenderRow, self._database.rows(_DAY_OF_ALL, (day, text)), self._skipped)
        return [row for row in rows if not kind or subjects.of(row.subject) == kind]

    def remove(self, limits: Sequence[str]) -> None:
        """Delete what senders did, and all reports but those of some limits."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sender_day")
            connection.execute(_REMOVE, (msgspec.json.encode(limits).decode(),))

    def highest(self, before: int) -> dict[str, int]:
        """Return the most recipients of each sender in a day before one (since the epoch)."""
        return dict(self._database.rows(_HIGHEST, (before, HIGHEST)))


def prune(connection: sqlite3.Connection, now: float, batch: int) -> int:
    """Delete at most `batch` days that are too old, inside a transaction; return how many."""
    return connection.execute(_PRUNE_DAYS, (day_of(now) - DAYS, batch)).rowcount
