"""What is active, for `list` and the like. Owns no state.

A million rows are read in pages, each a SELECT of its own: no long read transaction, no million
Python objects. Rows that change meanwhile may come in their old or their new state, or in both.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from throttled import address
from throttled.model import Action, Scope, Snapshot
from throttled.store.active import counts
from throttled.store.database import CHUNK, Database
from throttled.store.rows import read_lines, snapshot, structs

Order = Literal["since", "until", "subject", "packets"]

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
# `+`: the order shall choose the index, not this condition, which is true of nearly all rows.
_FILTER = """+until > :now AND (:scope IS NULL OR scope = :scope)
    AND (:action IS NULL OR action = :action) AND (:limit IS NULL OR "limit" = :limit)
    AND (:origin IS NULL OR origin = :origin) AND (:since IS NULL OR since >= :since)"""
_MATCHING = """
SELECT address, deliveries, logins FROM good WHERE address >= ?1 AND address < ?2
UNION ALL
SELECT subject, 0, 0 FROM active
    WHERE subject >= ?1 AND subject < ?2 AND until > ?3 AND subject NOT IN (
        SELECT address FROM good WHERE address >= ?1 AND address < ?2)
LIMIT ?4
"""
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


class Filter(Struct, frozen=True):
    """What of it is asked for; None = all."""

    scope: Scope | None = None
    action: Action | None = None
    limit: str | None = None
    within: str | None = None  # this subject and, for a network, everything inside it
    subject: str | None = None  # this subject alone
    origin: str | None = None  # see `Decision`
    since: float | None = None  # decided then or later


_ALL = Filter()


class Listing:
    """The table of active entries, as operators read it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.connection.create_function("inside", 2, address.inside, deterministic=True)

    def snapshots(
        self, now: float, what: Filter = _ALL, order: Order = "since", count: int = 1000
    ) -> list[Snapshot]:
        """Return what is active: the latest decided, soonest ending or most dropped first.

        Ordering a million rows by packets, or looking through them for a limit, takes a second.
        """
        return self.page(now, what, order, count)[0]

    def page(
        self,
        now: float,
        what: Filter = _ALL,
        order: Order = "since",
        count: int = 1000,
        after: Cursor = (),
    ) -> tuple[list[Snapshot], Cursor]:
        """Return `snapshots` from where another page ended, and where this one does; () = nowhere.

        Rows that change between two pages may come in both, or in none.
        """
        where, values = _where(what, now)
        by, end, beyond = _ORDERS[order]
        if after:
            where += f" AND {beyond}"
            values["first"], values["second"] = (*after, 0)[:2]
        found = self._database.rows(
            f"""
            SELECT a.subject, a.scope, a.action, a."limit", a.level, a.since, a.until, a.why,
                a.packets + a.counter, a.rate, a.origin, a.name, d.lines, {end}
            FROM (SELECT * FROM active WHERE {where} ORDER BY {by} LIMIT {int(count)}) a
                LEFT JOIN (SELECT number AS n, lines FROM decision) d ON d.n = a.number
            """,  # noqa: S608 - put together from constants of this module
            values,
        )
        rows = self._snapshots(snapshot(r[:12], read_lines(r[12])) for r in found)
        return rows, tuple(found[-1][13:]) if count and len(found) == count else ()

    def rows(self, now: float, chunk: int = CHUNK) -> Iterator[list[Snapshot]]:
        """Yield all that is active, the earliest decided first, in chunks, without lines."""
        number = 0
        while found := self._database.rows(_ROWS, (number, now, chunk)):
            number = found[-1][0]
            yield self._snapshots(snapshot(row[1:]) for row in found)

    def inside(self, network: str, now: float, chunk: int = CHUNK) -> Iterator[list[Snapshot]]:
        """Yield what is active inside a network or is it, in the order of the text of subjects.

        Without lines. `chunk` rows are looked at for each list, which may be empty: others have
        the same beginning. The store can be written in between.
        """
        subject, end = span(network)
        scope = ""
        while found := self._database.rows(_INSIDE, (subject, scope, end, now, chunk)):
            subject, scope = found[-1][:2]
            yield self._snapshots(snapshot(r) for r in found if address.inside(r[0], network))

    def total(self, now: float, what: Filter = _ALL) -> int:
        """Return how many are active."""
        slow = what.limit, what.within, what.subject, what.origin, what.since
        with self._database.guard() as connection:
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

    def matching(self, begin: str, now: float, count: int) -> dict[str, str]:
        """Return clients whose address begins with a text, with what good they did, for people.

        Args:
            begin: how they begin.
            now: wall clock; what ended before is not active.
            count: how many at most.
        """
        found = self._database.rows(_MATCHING, (begin, begin + "\x7f", now, count))
        return {
            subject: f"{deliveries} messages delivered, {logins} logins"
            if deliveries or logins
            else ""
            for subject, deliveries, logins in found
        }

    def _snapshots(self, rows: Iterable[tuple[object, ...]]) -> list[Snapshot]:
        return structs(Snapshot, rows, self._database.skipped)


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
