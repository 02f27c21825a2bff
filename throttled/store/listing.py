"""What is active: for the kernel, for `list` and `status`; moved in time. Owns no state.

A million rows are read in pages, each a SELECT of its own: no long read transaction, no million
Python objects. Rows that change meanwhile may come in their old or their new state, or in both.
"""

import math
import sqlite3
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from throttled import address
from throttled.model import ACTIONS, SCOPES, Action, Entry, Line, Scope, Snapshot
from throttled.skipped import Skipped
from throttled.store.database import Database
from throttled.store.rows import read_lines, read_rate, structs

Order = Literal["since", "until", "subject", "packets"]

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
_ROWS = """
SELECT number, subject, scope, action, "limit", level, since, until, why, packets + counter, rate,
    origin, name
    FROM active WHERE number > ?1 AND until > ?2 ORDER BY number LIMIT ?3
"""
_INSIDE = """
SELECT subject, scope, action, "limit", level, since, until, why, packets + counter, rate,
    origin, name
    FROM active WHERE (subject, scope) > (?1, ?2) AND subject < ?3 AND +until > ?4
    ORDER BY subject, scope LIMIT ?5
"""
_PAGE = """
SELECT max(number) FROM (SELECT number FROM active WHERE number > ? ORDER BY number LIMIT ?)
"""
_SHIFT = """
UPDATE active SET since = since + ?4, until = until + ?4
    WHERE number > ?1 AND number <= ?2 AND since <= ?3 AND until > ?3
"""
_SHIFT_MANUAL = (
    "UPDATE allowed SET since = since + ?2, until = until + ?2 WHERE since <= ?1 AND until > ?1",
    "UPDATE resolved SET until = until + ?2 WHERE since <= ?1 AND until > ?1",
    "UPDATE pardon SET until = until + ?2 WHERE at <= ?1 AND until > ?1",
)
# `+`: the order shall choose the index, not this condition, which is true of nearly all rows.
_FILTER = """+until > :now AND (:scope IS NULL OR scope = :scope)
    AND (:action IS NULL OR action = :action) AND (:limit IS NULL OR "limit" = :limit)
    AND (:origin IS NULL OR origin = :origin) AND (:since IS NULL OR since >= :since)"""
_WITHIN = "subject >= :low AND subject < :high AND inside(subject, :within)"
#: By order: ORDER BY, what of a row says where the next page begins, and where that is.
_ORDERS: dict[Order, tuple[str, str, str]] = {
    "since": ("number DESC", "number, 0", "number < :first AND :second = 0"),
    "until": ("until, number", "until, number", "(until, number) > (:first, :second)"),
    "subject": ("subject, scope", "subject, scope", "(subject, scope) > (:first, :second)"),
    "packets": (
        "packets + counter DESC, number DESC",
        "packets + counter, number",
        "(packets + counter, number) < (:first, :second)",
    ),
}
#: Where a page ended; () = there is no more, or from the beginning.
Cursor = tuple[int | float | str, ...]


class Shift(Struct):
    """A move in time, and how far it has come: nothing may be moved twice."""

    now: float  # wall clock, as it was before: what was decided later stays
    seconds: float  # forwards or back
    number: int = 0  # of the last row that was processed
    last: int = -1  # to be processed; -1 = not begun


class Filter(Struct, frozen=True):
    """What of it is asked for; None = all."""

    scope: Scope | None = None
    action: Action | None = None
    limit: str | None = None
    within: str | None = None  # this subject and, for a network, everything inside it
    subject: str | None = None  # this subject alone
    origin: str | None = None  # see `Decision`
    since: float | None = None  # decided then or later


def active(database: Database, now: float, chunk: int) -> Iterator[list[Entry]]:
    """Yield the active entries, `chunk` rows at a time; the latest active first."""
    for page in _pages(database, _ACTIVE, 1 << 62, now, chunk):
        yield [_entry(row) for row in page]


def sample(connection: sqlite3.Connection, now: float, count: int) -> list[Entry]:
    """Return some of what is active, decided one after the other from a random one on."""
    return [_entry(row) for row in connection.execute(_SAMPLE, (now, count))]


def rows(database: Database, now: float, chunk: int) -> Iterator[list[Snapshot]]:
    """Yield what is active with all that is known of it, `chunk` rows at a time."""
    for page in _pages(database, _ROWS, 0, now, chunk):
        yield structs(Snapshot, map(_snapshot, page), database.skipped)


def inside(database: Database, network: str, now: float, chunk: int) -> Iterator[list[Snapshot]]:
    """Yield what is active inside a network or is it, in the order of the text of subjects.

    `chunk` rows are looked at for each list, which may be empty: others have the same beginning.
    """
    subject, end = span(network)
    scope = ""
    while True:
        with database.guard() as connection:
            found = connection.execute(_INSIDE, (subject, scope, end, now, chunk)).fetchall()
        if not found:
            return
        subject, scope = found[-1][:2]
        within = [_snapshot(row) for row in found if address.inside(row[0], network)]
        yield structs(Snapshot, within, database.skipped)


def shift(database: Database, how: Shift, chunk: int) -> Iterator[int]:
    """Move what is active, allowed and exempt in time; see `Store.shift`."""
    if how.last < 0:
        with database.transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM active").fetchone()
            for statement in _SHIFT_MANUAL:
                connection.execute(statement, (how.now, how.seconds))
        how.last = last
    while how.number < how.last:
        with database.transaction() as connection:
            (end,) = connection.execute(_PAGE, (how.number, chunk)).fetchone()
            end = min(end or how.last, how.last)
            values = (how.number, end, how.now, how.seconds)
            moved = connection.execute(_SHIFT, values).rowcount
        how.number = end
        yield moved


def ended(database: Database, until: float, chunk: int) -> Iterator[list[Snapshot]]:
    """Yield what expired by then, the earliest first, `chunk` rows at a time."""
    end, number = -math.inf, 0
    while True:
        with database.guard() as connection:
            rows = connection.execute(_ENDED, (end, number, until, chunk)).fetchall()
        if not rows:
            return
        number, end = rows[-1][0], rows[-1][7]
        yield structs(Snapshot, [_snapshot(row[1:]) for row in rows], database.skipped)


def page(  # noqa: PLR0913 - what, in which order, from where on, how much
    connection: sqlite3.Connection,
    what: Filter,
    now: float,
    order: Order,
    count: int,
    *,
    after: Cursor = (),
    skipped: Skipped,
) -> tuple[list[Snapshot], Cursor]:
    """Return `count` rows of what is active, and where the next page begins."""
    where, values = _where(what, now)
    by, end, beyond = _ORDERS[order]
    if after:
        where += f" AND {beyond}"
        values["first"], values["second"] = (*after, 0)[:2]
    found = connection.execute(
        f"""
        SELECT a.subject, a.scope, a.action, a."limit", a.level, a.since, a.until, a.why,
            a.packets + a.counter, a.rate, a.origin, a.name, d.lines, {end}
        FROM (SELECT * FROM active WHERE {where} ORDER BY {by} LIMIT {int(count)}) a
            LEFT JOIN (SELECT number AS n, lines FROM decision) d ON d.n = a.number
        """,  # noqa: S608 - put together from constants of this module
        values,
    ).fetchall()
    rows = structs(Snapshot, [_snapshot(r[:12], read_lines(r[12])) for r in found], skipped)
    return rows, tuple(found[-1][13:]) if count and len(found) == count else ()


def total(connection: sqlite3.Connection, what: Filter, now: float) -> int:
    """Return how many rows a filter lets through."""
    slow = what.limit, what.within, what.subject, what.origin, what.since
    if slow.count(None) == len(slow):
        return sum(
            rows
            for (scope, action), rows in counts(connection, now).items()
            if what.scope in (None, scope) and what.action in (None, action)
        )
    where, values = _where(what, now)
    query = f"SELECT count(*) FROM active WHERE {where}"  # noqa: S608 - as above
    (number,) = connection.execute(query, values).fetchone()
    return int(number)


def prefix_lengths(connection: sqlite3.Connection) -> set[int]:
    """Return the prefix lengths of the networks that are active."""
    query = "SELECT DISTINCT substr(subject, instr(subject, '/') + 1) FROM active"
    rows = connection.execute(f"{query} WHERE instr(subject, '/')")
    return {int(text) for (text,) in rows if text.isdigit()}


def counts(connection: sqlite3.Connection, now: float) -> dict[tuple[Scope, Action], int]:
    """Return how many are active, without counting them."""
    rows = dict(connection.execute("SELECT name, rows FROM tally").fetchall())
    for name, over in connection.execute(
        "SELECT scope || ' ' || action, count(*) FROM active WHERE until <= ? GROUP BY 1", (now,)
    ):
        if name in rows:  # else of a scope or action that there is not
            rows[name] -= over
    return {(scope, action): rows[f"{scope} {action}"] for scope in SCOPES for action in ACTIONS}


def register(connection: sqlite3.Connection) -> None:
    """Give SQL the function that a `within` needs."""
    connection.create_function("inside", 2, address.inside, deterministic=True)


def span(outer: str) -> tuple[str, str]:
    """Return a range of text, [first, second), that holds every subject inside this one.

    It is the text that all of them begin with: the whole octets of an IPv4 network; the whole
    groups of an IPv6 network before the first that is zero, and may be written as `::`; and the
    whole digits of the next group if it has four of them, as its first one is not zero.
    """
    if address.is_named(outer):
        return outer, outer + "\0"
    packed, prefix = address.parse(outer)
    if prefix == len(packed) * 8:
        return outer, outer + "\0"
    if len(packed) == 4:
        begin = "".join(f"{octet}." for octet in packed[: prefix // 8])
    else:
        begin = ""
        for at in range(0, prefix // 16 * 2, 2):
            group = int.from_bytes(packed[at : at + 2])
            if group == 0:
                break
            begin += f"{group:x}:"
        else:
            digits = packed[prefix // 16 * 2 :][:2].hex()[: prefix % 16 // 4]
            begin += digits if not digits.startswith("0") else ""
    return begin, begin + "\x7f"


def _pages(
    database: Database, select: str, number: int, now: float, chunk: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows behind `number`, without their first column, which numbers them."""
    while True:
        with database.guard() as connection:
            found = connection.execute(select, (number, now, chunk)).fetchall()
        if not found:
            return
        number = found[-1][0]
        yield [row[1:] for row in found]


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(*(*row[:-1], read_rate(row[-1])))


def _snapshot(row: tuple[Any, ...], lines: tuple[Line, ...] = ()) -> tuple[object, ...]:
    """Return the fields of a Snapshot."""
    *fields, rate, origin, name = row
    return *fields, lines, read_rate(rate), origin, name


def _where(what: Filter, now: float) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {"now": now, "scope": what.scope, "action": what.action}
    values |= {"limit": what.limit, "origin": what.origin, "since": what.since}
    if what.subject is not None:
        return f"{_FILTER} AND subject = :subject", values | {"subject": what.subject}
    if what.within is None:
        return _FILTER, values
    low, high = span(what.within)
    more: dict[str, object] = {"low": low, "high": high, "within": what.within}
    return f"{_FILTER} AND {_WITHIN}", values | more
