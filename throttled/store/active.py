"""What is active, for the kernel: read in pages, moved in time, counted. Owns no state.

A million rows are read in pages, each a SELECT of its own: no long read transaction, no million
Python objects. Rows that change meanwhile may come in their old or their new state, or in both.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec import Struct

from throttled.model import ACTIONS, SCOPES, Action, Element, Entry, Scope, Snapshot
from throttled.store.database import CHUNK, Database
from throttled.store.rows import read_rate, snapshot, structs

# Never longer than it was decided for, also where the clock went backwards meanwhile.
_ACTIVE = """
SELECT number, subject, scope, action, min(until - ?2, until - since), rate
    FROM active WHERE number < ?1 AND until > ?2 ORDER BY number DESC LIMIT ?3
"""
_SAMPLE = """
SELECT subject, scope, action, min(until - ?1, until - since), rate
    FROM active WHERE until > ?1 AND number >= (SELECT (SELECT min(number) FROM active)
        + abs(random()) % ((SELECT max(number) FROM active) - (SELECT min(number) FROM active) + 1))
    ORDER BY number LIMIT ?2
"""
_ENDED = """
SELECT number, subject, scope, action, "limit", level, since, until, why, packets + counter, rate,
    origin, name
    FROM active WHERE until <= ?3 AND (until, number) > (?1, ?2) ORDER BY until, number LIMIT ?4
"""
_LAST = "SELECT coalesce(max(number), 0) FROM active"
_PAGE = """
SELECT max(number) FROM (SELECT number FROM active WHERE number > ? ORDER BY number LIMIT ?)
"""
# What ended just before is moved too: it shall not begin again if the clock was set back.
_SHIFT = """
UPDATE active SET since = since + ?4, until = until + ?4
    WHERE number > ?1 AND number <= ?2 AND since <= ?3
"""
_SHIFT_MANUAL = (
    "UPDATE allowed SET since = since + ?2, until = until + ?2 WHERE since <= ?1 AND until > ?1",
    "UPDATE resolved SET until = until + ?2 WHERE since <= ?1 AND until > ?1",
    "UPDATE pardon SET until = until + ?2 WHERE at <= ?1 AND until > ?1",
)
_PACKETS = """
UPDATE active SET packets = packets + CASE WHEN ?1 < counter THEN counter ELSE 0 END, counter = ?1
    WHERE subject = ?2 AND scope = ?3 AND action = ?4 AND counter <> ?1
"""
_PREFIX_LENGTHS = """
SELECT DISTINCT substr(subject, instr(subject, '/') + 1) FROM active WHERE instr(subject, '/')
"""


class Shift(Struct):
    """A move in time, and how far it has come: nothing may be moved twice."""

    now: float  # wall clock, as it was before: what was decided later stays
    seconds: float  # forwards or back
    number: int = 0  # of the last row that was processed
    last: int = -1  # to be processed; -1 = not begun


class Active:
    """The table of active entries, as the kernel should have them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self, now: float, chunk: int = CHUNK) -> Iterator[list[Entry]]:
        """Yield what should be active, the latest decided first, in chunks.

        The store can be written in between; what is decided again then may not come again.
        """
        number = 1 << 62
        while found := self._database.rows(_ACTIVE, (number, now, chunk)):
            number = found[-1][0]
            yield [_entry(row[1:]) for row in found]

    def sample(self, now: float, count: int) -> list[Entry]:
        """Return at most `count` of what should be active, neighbours from a random one on."""
        return [_entry(row) for row in self._database.rows(_SAMPLE, (now, count))]

    def ended(self, until: float, chunk: int = CHUNK) -> Iterator[list[Snapshot]]:
        """Yield what expired by then and was not replaced, in chunks, the earliest first.

        Without lines. Kept for an hour; the store can be written in between.
        """
        end, number = -math.inf, 0
        while rows := self._database.rows(_ENDED, (end, number, until, chunk)):
            number, end = rows[-1][0], rows[-1][7]
            yield structs(Snapshot, [snapshot(row[1:]) for row in rows], self._database.skipped)

    def shift(self, how: Shift, chunk: int = CHUNK) -> Iterator[int]:
        """Move the expiry of active, allowed and exempt entries, in chunks: the clock was set.

        Yields how much of what is active moved.

        Args:
            how: by how much, and how far it has come; after an error it continues there.
                What was decided later than its `now` stays: by a clock that was right before.
            chunk: rows of one transaction; the store can be written in between.
        """
        if how.last < 0:
            with self._database.transaction() as connection:
                (last,) = connection.execute(_LAST).fetchone()
                for statement in _SHIFT_MANUAL:
                    connection.execute(statement, (how.now, how.seconds))
            how.last = last
        while how.number < how.last:
            with self._database.transaction() as connection:
                (end,) = connection.execute(_PAGE, (how.number, chunk)).fetchone()
                end = min(end or how.last, how.last)
                values = (how.number, end, how.now, how.seconds)
                moved = connection.execute(_SHIFT, values).rowcount
            how.number = end
            yield moved

    def counts(self, now: float) -> dict[tuple[Scope, Action], int]:
        """Return how many are active by scope and action."""
        with self._database.guard() as connection:
            return counts(connection, now)

    def prefix_lengths(self) -> set[int]:
        """Return the prefix lengths of the networks that are active: 0.1 s for a million rows."""
        rows = self._database.rows(_PREFIX_LENGTHS)
        return {int(text) for (text,) in rows if text.isdigit()}

    def packets(self, elements: Iterable[Element]) -> None:
        """Record the kernel's counters, in transactions of 10,000.

        Packets add up while the same action continues, also when an element is renewed (recorded
        first, counters read before) or recreated, which sets the kernel's counter to zero. What a
        backend could not read, its seconds are nan then, says nothing.
        """
        every = (each for each in elements if not math.isnan(each.seconds))
        while chunk := list(islice(every, CHUNK)):
            with self._database.transaction() as connection:
                rows = ((s.packets, s.subject, s.scope, s.action) for s in chunk)
                connection.executemany(_PACKETS, rows)


def counts(connection: sqlite3.Connection, now: float) -> dict[tuple[Scope, Action], int]:
    """Return how many are active, without counting them; inside a transaction or not."""
    rows = dict(connection.execute("SELECT name, rows FROM tally").fetchall())
    for name, over in connection.execute(
        "SELECT scope || ' ' || action, count(*) FROM active WHERE until <= ? GROUP BY 1", (now,)
    ):
        if name in rows:  # else of a scope or action that there is not
            rows[name] -= over
    return {(scope, action): rows[f"{scope} {action}"] for scope in SCOPES for action in ACTIONS}


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(*(*row[:-1], read_rate(row[-1])))
