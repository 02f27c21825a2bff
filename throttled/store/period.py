"""What the decisions of a period came to, for reports. Reads only; owns no state.

Each function looks once through the stored decisions (two million at most: some seconds), grouped
by SQLite: neither rows nor subjects become Python objects, but for those returned.
"""

import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from throttled import address
from throttled.model import Decision
from throttled.store import listing, load
from throttled.store.database import Database
from throttled.store.good import Good, day_of
from throttled.store.hourly import HOUR
from throttled.store.rows import structs

_PERIOD = "time >= :since AND time < :until AND action IN ('throttle', 'ban')"
_SUBJECTS = f"""
SELECT action, count(DISTINCT subject) FROM decision WHERE {_PERIOD} AND NOT named(subject)
    GROUP BY action
"""  # noqa: S608 - constants
_NETWORKS = f"""
SELECT block(subject) AS network, count(DISTINCT subject), sum(action = 'ban'),
    sum(action = 'throttle'), max(time)
    FROM decision WHERE {_PERIOD} AND network <> ''
    GROUP BY network ORDER BY 3 DESC, 4 DESC, network LIMIT :count
"""  # noqa: S608
# SQLite takes the other columns from the row with the maximum (its "bare columns").
_CLIENTS = f"""
SELECT subject, sum(action = 'ban'), sum(action = 'throttle'), max(time), "limit",
    name
    FROM decision WHERE {_PERIOD} AND named(subject) = :named
    GROUP BY subject ORDER BY 2 DESC, 3 DESC, subject LIMIT :count
"""  # noqa: S608
# A good sender inside a throttled or banned network counts unless it was exempt from that.
_NOT_EXEMPT = """
NOT EXISTS (SELECT 1 FROM decision e WHERE e.subject = g.address AND e.scope = d.scope
    AND e.action = 'exempt' AND e.until > d.time AND e.time < d.until)
"""
_GOOD = f"""
SELECT subject, sum(banned), sum(throttled), max(time), "limit", max(name), day, days, deliveries,
    logins, last_login
    FROM (
        SELECT g.address AS subject, d.action = 'ban' AS banned, d.action = 'throttle' AS throttled,
            d.time, d."limit", d.name, g.*
            FROM good g JOIN decision d ON d.subject = g.address
            WHERE {_PERIOD}
        UNION ALL
        SELECT g.address, d.action = 'ban', d.action = 'throttle', d.time, d."limit", '', g.*
            FROM decision d JOIN good g ON g.network = d.subject
            WHERE {_PERIOD} AND {_NOT_EXEMPT}
        UNION ALL
        SELECT g.address, d.action = 'ban', d.action = 'throttle', d.time, d."limit", '', g.*
            FROM decision d CROSS JOIN good g
                ON g.address >= begin(d.subject) AND g.address < beyond(d.subject)
            WHERE {_PERIOD} AND other_length(d.subject) AND inside(g.address, d.subject)
                AND {_NOT_EXEMPT}
    )
    GROUP BY subject ORDER BY 2 DESC, 3 DESC, deliveries + logins DESC, subject
"""  # noqa: S608
_REPORTED = """
SELECT shown, "limit", count(*), max(value), max(time) FROM sender_report
    WHERE time >= :since AND time < :until
    GROUP BY subject, "limit" ORDER BY 3 DESC, 4 DESC, subject, "limit" LIMIT :count
"""
_SENDERS = """
SELECT subject, sum(messages), sum(recipients), sum(bounces) FROM sender_day
    WHERE day >= :first AND day <= :last AND messages > 0
        AND (subject LIKE 'account:%' OR subject LIKE 'uid:%')
    GROUP BY subject ORDER BY 3 DESC, subject LIMIT :count
"""


_INSIDE = f"""
SELECT {load.DECISION} FROM decision WHERE subject >= :low AND subject < :high
    AND inside(subject, :within) AND time >= :since AND time < :until
    ORDER BY number DESC LIMIT :count
"""  # noqa: S608
DECISIONS = 10_000


class NetworkSum(Struct, frozen=True):
    """What was decided about a network (/24, /64) and the addresses in it."""

    network: str
    clients: int  # distinct subjects
    bans: int
    throttles: int
    last: float  # time of the latest decision


class SubjectSum(Struct, frozen=True):
    """What was decided about one subject."""

    subject: str
    bans: int
    throttles: int
    last: float
    limit: str  # of the latest decision
    name: str = ""  # the client's host name then, "": none


class GoodSum(Struct, frozen=True):
    """A client with good evidence that was throttled or banned, itself or with its network."""

    subject: str
    bans: int
    throttles: int
    last: float
    limit: str
    deliveries: int  # of the 30 days before `now`
    logins: int
    name: str = ""  # the client's host name, "": none


class ReportSum(Struct, frozen=True):
    """How often a sender was reported for a limit."""

    shown: str  # its subject as its name was first written
    limit: str
    times: int
    highest: int
    last: float


class SenderSum(Struct, frozen=True):
    """What an account or a local user sent in some days (UTC)."""

    subject: str
    messages: int
    recipients: int
    bounces: int


class Period:
    """Reads what was decided from `since` to before `until` (wall clock)."""

    def __init__(self, database: Database, since: float, until: float) -> None:
        self._database = database
        self._span = {"since": since, "until": until}
        self._skipped = database.skipped
        functions: dict[str, Callable[[str], str | bool]] = {
            "block": _block,
            "named": _named,
            "other_length": _other_length,
            "begin": lambda subject: _span(subject)[0],
            "beyond": lambda subject: _span(subject)[1],
        }
        for name, function in functions.items():
            database.connection.create_function(name, 1, function, deterministic=True)

    def counted_since(self) -> float:
        """Return when counting by hour began, or from when on it is stored; inf for no hour."""
        [(hour,)] = self._rows("SELECT min(hour) FROM hourly")
        return hour * float(HOUR) if isinstance(hour, int) else math.inf

    def subjects(self) -> dict[str, int]:
        """Return how many distinct subjects were throttled, and how many banned, by action."""
        return dict(self._rows(_SUBJECTS))

    def networks(self, count: int) -> list[NetworkSum]:
        """Return the networks with the most bans, then throttles."""
        return structs(NetworkSum, self._rows(_NETWORKS, count=count), self._skipped)

    def clients(self, count: int, *, named: bool = False) -> list[SubjectSum]:
        """Return those with the most bans, then throttles; `named`: accounts and the like."""
        rows = self._rows(_CLIENTS, count=count, named=named)
        return structs(SubjectSum, rows, self._skipped)

    def good(self, now: float, count: int) -> tuple[list[GoodSum], int, int]:
        """Return clients with good evidence that were throttled or banned, the banned first.

        Returns:
            At most `count` of them, how many there are, and how many of these were banned.
        """
        found: list[GoodSum] = []
        total = banned = 0

        def add(row: tuple[Any, ...]) -> None:
            nonlocal total, banned
            deliveries, _days, logins = Good(*row[6:]).at(now)
            if deliveries + logins <= 0:
                return
            total += 1
            banned += row[1] > 0
            if len(found) < count:
                fields = (*row[:5], deliveries, logins, row[5])
                found.extend(structs(GoodSum, [fields], self._skipped))

        self._skipped.run("row", self._rows(_GOOD), add)
        return found, total, banned

    def decisions(self, subject: str) -> list[Decision]:
        """Return what was decided about a subject and everything inside it, in order of time.

        At most the latest `DECISIONS`.
        """
        low, high = listing.span(subject)
        rows = self._rows(_INSIDE, low=low, high=high, within=subject, count=DECISIONS)
        found = structs(Decision, map(load.decision, rows), self._skipped)
        return sorted(found, key=lambda decision: decision.time)

    def reported(self, count: int) -> list[ReportSum]:
        """Return the senders that were reported most often, by limit."""
        return structs(ReportSum, self._rows(_REPORTED, count=count), self._skipped)

    def senders(self, count: int) -> list[SenderSum]:
        """Return the accounts and local users with the most recipients in the days of the period.

        Days are whole days (UTC), the first and the last one too.
        """
        first, last = day_of(self._span["since"]), day_of(self._span["until"] - 1)
        rows = self._rows(_SENDERS, first=first, last=last, count=count)
        return structs(SenderSum, rows, self._skipped)

    def _rows(self, query: str, **more: Any) -> list[tuple[Any, ...]]:
        return self._database.rows(query, {**self._span, **more})


def _block(subject: object) -> str:
    """Return the network that a subject is or is grouped into; itself where it is in none."""
    if not isinstance(subject, str) or _named(subject):
        return ""
    try:
        return subject if address.is_network(subject) else address.network_of(subject) or subject
    except ValueError:  # a row that another program altered
        return ""


def _other_length(subject: object) -> bool:
    """Return whether a subject is a network that addresses are not grouped into by themselves."""
    if not isinstance(subject, str) or not address.is_network(subject):
        return False
    try:
        packed, prefix = address.parse(subject)
    except ValueError:  # a row that another program altered
        return False
    return prefix != (24 if len(packed) == 4 else 64)


def _span(subject: object) -> tuple[str, str]:
    """Return a range of text that has every subject inside one; an empty one for others."""
    return (
        listing.span(subject) if isinstance(subject, str) and _other_length(subject) else ("", "")
    )


def _named(subject: object) -> bool:
    return isinstance(subject, str) and address.is_named(subject)
