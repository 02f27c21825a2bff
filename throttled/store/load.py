"""Reading what is known of single subjects. Owns no state.

A batch of subjects is one SELECT for each scope in it, and a few index lookups for each subject.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import msgspec

from throttled import address
from throttled.model import SCOPES, Decision, NetworkPast, Past, Scope
from throttled.skipped import Skipped
from throttled.store.good import MEMORY, Good, day_of
from throttled.store.listing import span
from throttled.store.rows import read_lines, read_rate, struct, structs

Key = tuple[str, Scope]

_DAY = 86400.0
_NOTHING = Past()

_PAST = """
SELECT s.value, o.bans, o.ended, a.action, a.until, a.rate, e.until,
    g.day, g.days, g.deliveries, g.logins, g.last_login
FROM json_each(?1) s
    LEFT JOIN active a ON a.subject = s.value AND a.scope = ?2 AND a.until > ?3
    LEFT JOIN offence o ON o.subject = s.value AND o.scope = ?2
    LEFT JOIN pardon e ON e.subject = s.value AND e.scope = ?2 AND e.until > ?3
    LEFT JOIN good g ON g.address = s.value
WHERE o.bans IS NOT NULL OR a.until IS NOT NULL OR e.until IS NOT NULL OR g.day IS NOT NULL
"""
# More than a thousand of a network are a thousand: a sprayed /64 shall not cost us seconds.
_NETWORK_PAST = """
SELECT n.value,
    (SELECT count(*) FROM (SELECT 1 FROM offence
        WHERE network = n.value AND network <> '' AND scope = ?2
            AND banned > max(?4, coalesce(e.at, ?4))
        LIMIT 1000)),
    (SELECT count(*) FROM (SELECT 1 FROM good WHERE network = n.value AND seen > ?5 LIMIT 1000)),
    a.action, coalesce(a.until, 0.0), coalesce(e.until, 0.0), a.rate
FROM json_each(?1) n
    LEFT JOIN pardon e ON e.subject = n.value AND e.scope = ?2
    LEFT JOIN active a ON a.subject = n.value AND a.scope = ?2 AND a.until > ?3
"""
# Of a network with more, the latest: a /64 with very many senders must not cost seconds. A sender
# that is throttled or banned itself, or was banned within a day, is no good sender.
_SENDERS = """
SELECT g.address
FROM (
    SELECT *
    FROM (SELECT * FROM good WHERE network = ?1 AND seen > ?2 ORDER BY seen DESC LIMIT 10000)
    WHERE max(deliveries, logins) >= 2
    ORDER BY deliveries + logins DESC, address LIMIT ?8
) g
    LEFT JOIN active a ON a.subject = g.address AND a.scope = ?3 AND a.until > ?4
    LEFT JOIN offence o ON o.subject = g.address AND o.scope = ?3 AND o.banned > ?5
WHERE o.subject IS NULL
    AND (a.subject IS NULL OR a.action = 'exempt' AND a.until < ?6 - 1)
    AND ?7 IN ('', g.address)
ORDER BY g.deliveries + g.logins DESC, g.address
"""
# Networks wider than those that addresses are grouped in.
_SENDERS_WIDE = _SENDERS.replace(
    "network = ?1", "network >= ?9 AND network < ?10 AND inside(network, ?1)"
)
_EXEMPTED = """
SELECT subject FROM active
WHERE action = 'exempt' AND subject >= ?4 AND subject < ?5 AND inside(subject, ?1)
    AND "limit" = 'network' AND scope = ?2 AND until > ?3
"""
# Candidates only: with deliveries on two days or two logins, at whatever time.
_GOOD = """
SELECT address FROM good
WHERE address > ?1 AND seen > ?2 AND (days & (days - 1) <> 0 OR logins >= 2)
ORDER BY address LIMIT ?3
"""
#: Columns of a decision, for `decision`.
DECISION = """time, action, subject, scope, "limit", level, until, why, value, threshold, alert,
    rate, origin, name, lines"""
_DECISIONS = f"""
SELECT {DECISION}
    FROM decision WHERE subject = ? ORDER BY number DESC LIMIT ?
"""  # noqa: S608 - constants
_LATEST = _DECISIONS.replace("WHERE subject = ?", "")


def past(
    connection: sqlite3.Connection, keys: Sequence[Key], now: float, skipped: Skipped
) -> dict[Key, Past]:
    """Return what is known of each subject, `Past()` where that is nothing, or was altered."""
    found = dict.fromkeys(keys, _NOTHING)
    for scope, rows in _by_scope(connection, _PAST, keys, now):
        skipped.run("row", rows, partial(_add_past, found, scope, now))
    return found


def _add_past(found: dict[Key, Past], scope: Scope, now: float, row: Sequence[Any]) -> None:
    subject, bans, ended, action, until, rate, exempt, *good = row
    counts = (0, 0, 0) if good[0] is None else Good(*good).at(now)
    known = bans or 0, ended or 0.0, action, until or 0.0, *counts, good[-1] or 0.0, exempt or 0.0
    found[subject, scope] = struct(Past, (*known, read_rate(rate)))


def network_past(
    connection: sqlite3.Connection, keys: Sequence[Key], now: float, skipped: Skipped
) -> dict[Key, NetworkPast]:
    """Return what is known of each network, without those of which that was altered."""
    found: dict[Key, NetworkPast] = {}
    values = (now, now - _DAY, day_of(now) - MEMORY)
    for scope, rows in _by_scope(connection, _NETWORK_PAST, keys, *values):
        skipped.run("row", rows, partial(_add_network, found, scope))
    return found


def _add_network(found: dict[Key, NetworkPast], scope: Scope, row: Sequence[Any]) -> None:
    network, *known, rate = row
    found[network, scope] = struct(NetworkPast, (*known, read_rate(rate)))


def senders(  # noqa: PLR0913, PLR0917 - which network, as of when, how many
    connection: sqlite3.Connection,
    network: str,
    scope: Scope,
    until: float,
    now: float,
    most: int,
    only: str = "",
) -> list[str]:
    """Return known good addresses of a network, see `Store.good_senders`."""
    values = (network, day_of(now) - MEMORY, scope, now, now - _DAY, until, only, most)
    packed, prefix = address.parse(network)
    if prefix < (24 if len(packed) == 4 else 64):
        rows = connection.execute(_SENDERS_WIDE, (*values, *span(network)))
    else:
        rows = connection.execute(_SENDERS, values)
    return [row[0] for row in rows]


def exempted(connection: sqlite3.Connection, network: str, scope: Scope, now: float) -> list[str]:
    """Return addresses inside a network that are exempt from what is active against networks."""
    rows = connection.execute(_EXEMPTED, (network, scope, now, *span(network)))
    return [row[0] for row in rows]


def good_addresses(connection: sqlite3.Connection, after: str, now: float, count: int) -> list[str]:
    """Return addresses with good evidence that may count, in the order of their text."""
    values = (after, day_of(now) - MEMORY, count)
    return [row[0] for row in connection.execute(_GOOD, values)]


def decisions(
    connection: sqlite3.Connection, subject: str, limit: int, skipped: Skipped
) -> list[Decision]:
    """Return the history of a subject, or of all (""), newest first."""
    query, values = (_DECISIONS, (subject, limit)) if subject else (_LATEST, (limit,))
    rows = connection.execute(query, values)
    return structs(Decision, map(decision, rows), skipped)


def decision(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the fields of a decision from the columns `DECISION`."""
    *first, alert, rate, origin, name, lines = row
    return (*first, read_lines(lines), alert, read_rate(rate), 0, 0, origin, "", name)


def _by_scope(
    connection: sqlite3.Connection, query: str, keys: Sequence[Key], *values: float
) -> Iterator[tuple[Scope, sqlite3.Cursor]]:
    """Yield each scope, and the rows of the subjects in it."""
    for scope in SCOPES:
        subjects = list({subject: None for subject, of in keys if of == scope})
        if len(subjects) == 1:
            yield scope, connection.execute(_of_one(query), (subjects[0], scope, *values))
        elif subjects:
            asked = msgspec.json.encode(subjects).decode()
            yield scope, connection.execute(query, (asked, scope, *values))


@cache
def _of_one(query: str) -> str:
    """Return a query for one subject: a decision waits for it, and `json_each` takes a third."""
    return query.replace("json_each(?1)", "(SELECT ?1 AS value)")
