"""Writing what happened: decisions, evidence, positions. Inside the caller's transaction.

Owns no state. A batch is written table by table in the order of its subjects, so that a large one
visits each page of an index once; decisions about one subject keep their order, and the last wins.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from throttled import address
from throttled.model import Decision, Evidence
from throttled.store.good import Good
from throttled.store.rows import StoredPosition, clip, write_lines, write_rate

Row = tuple[int | float | str, ...]

# Of a database that was damaged and recovered the latest decisions may be lost, and not the rest.
# A number that another program altered to be too large has no successor.
_NUMBER = """
SELECT 1 + max((SELECT coalesce(max(number), 0) FROM decision WHERE number < 1 << 62),
    (SELECT coalesce(max(number), 0) FROM active WHERE number < 1 << 62),
    (SELECT coalesce(max(number), 0) FROM offence WHERE number < 1 << 62))
"""
_DECISION = """
INSERT INTO decision (number, time, action, subject, scope, "limit", level, until, why, value,
    threshold, lines, alert, rate, origin, name)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# What is active is not replaced by less: a ban is more than a throttle, that more than an
# exemption. Where the same action continues, so do its packets; whether renewing set the kernel's
# counter to zero (before Linux 6.12), `_PACKETS` notices.
_ACTIVE = """
INSERT INTO active (number, subject, scope, action, "limit", level, since, until, why, rate,
    origin, name)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, scope) DO UPDATE SET
    number = excluded.number, action = excluded.action, "limit" = excluded."limit",
    level = excluded.level, since = excluded.since, until = excluded.until, why = excluded.why,
    rate = excluded.rate, origin = excluded.origin, name = excluded.name,
    packets = CASE WHEN action = excluded.action AND until > excluded.since
        THEN packets ELSE 0 END,
    counter = CASE WHEN action = excluded.action AND until > excluded.since
        THEN counter ELSE 0 END
WHERE excluded.action = 'ban' OR action IN ('exempt', excluded.action) OR until <= excluded.since
"""
_OFFENCE = """
INSERT INTO offence (number, subject, scope, network, bans, banned, ended)
    VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, scope) DO UPDATE SET
    number = excluded.number, network = excluded.network, bans = excluded.bans,
    banned = excluded.banned, ended = excluded.ended
"""
# What a peer banned is a step of the ladder, but does not count towards a decision about a network.
_PEERS_OFFENCE = """
INSERT INTO offence (number, subject, scope, network, bans, banned, ended)
    VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, scope) DO UPDATE SET
    number = excluded.number, bans = max(bans, excluded.bans), ended = max(ended, excluded.ended)
"""
_RELEASE = "DELETE FROM active WHERE subject = ? AND scope = ?"
_PEACE = "UPDATE offence SET ended = min(ended, ?) WHERE subject = ? AND scope = ?"
_KNOWN = """
SELECT address, day, days, deliveries, logins, last_login
    FROM json_each(?) JOIN good ON address = value
"""
_GOOD = """
INSERT INTO good (address, network, seen, day, days, deliveries, logins, last_login)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (address) DO UPDATE SET
    seen = excluded.seen, day = excluded.day, days = excluded.days,
    deliveries = excluded.deliveries, logins = excluded.logins, last_login = excluded.last_login
"""
_POSITION = """
INSERT INTO position (path, state) VALUES (?, ?)
    ON CONFLICT (path) DO UPDATE SET state = excluded.state
"""
_BACKLOG = _POSITION.replace("position", "backlog")


def decisions(connection: sqlite3.Connection, batch: Sequence[Decision]) -> None:
    """Write decisions into the history, what is active and the offences."""
    (number,) = connection.execute(_NUMBER).fetchone()
    numbered = list(enumerate(sorted(batch, key=lambda d: d.subject), number))
    connection.executemany(_DECISION, (_decision(n, d) for n, d in numbered))
    for release, run in groupby(numbered, key=lambda pair: pair[1].action == "release"):
        if release:
            connection.executemany(_RELEASE, ((d.subject, d.scope) for _, d in run))
        else:
            connection.executemany(_ACTIVE, (_active(n, d) for n, d in run))
    for action, run in groupby(numbered, key=lambda pair: pair[1].action):
        if action == "release":
            connection.executemany(_PEACE, ((d.time, d.subject, d.scope) for _, d in run))
        elif action == "ban":
            bans = [(n, d) for n, d in run if d.level > 0]
            for statement, of_peer in ((_OFFENCE, False), (_PEERS_OFFENCE, True)):
                rows = (_offence(n, d) for n, d in bans if _of_peer(d) == of_peer)
                connection.executemany(statement, rows)


def evidence(connection: sqlite3.Connection, batch: Iterable[Evidence], now: float) -> None:
    """Fold good evidence into the rows of its addresses."""
    found = {e.subject: Good() for e in batch}
    subjects = msgspec.json.encode(list(found)).decode()
    for subject, *row in connection.execute(_KNOWN, (subjects,)):
        found[subject] = Good(*row)
    for e in batch:
        found[e.subject].add(e.time, e.deliveries, e.logins, now)
    connection.executemany(_GOOD, (_good(s, good) for s, good in sorted(found.items())))


def positions(connection: sqlite3.Connection, batch: Iterable[StoredPosition]) -> None:
    """Write how far the logs have been read."""
    connection.executemany(_POSITION, ((p.path, p.state) for p in batch))


def backlog(connection: sqlite3.Connection, batch: Iterable[StoredPosition]) -> None:
    """Write how far existing logs have been read for evidence."""
    connection.executemany(_BACKLOG, ((p.path, p.state) for p in batch))


def _decision(number: int, d: Decision) -> Row:
    return (
        number,
        d.time,
        d.action,
        d.subject,
        d.scope,
        d.limit,
        d.level,
        d.until,
        clip(d.why),
        d.value,
        d.threshold,
        write_lines(d.lines),
        clip(d.alert),
        write_rate(d.rate),
        d.origin,
        clip(d.name),
    )


def _active(number: int, d: Decision) -> Row:
    row = (number, d.subject, d.scope, d.action, d.limit, d.level, d.time, d.until)
    return *row, clip(d.why), write_rate(d.rate), d.origin, clip(d.name)


def _offence(number: int, d: Decision) -> Row:
    network = "" if _of_peer(d) else address.network_of(d.subject)
    return number, d.subject, d.scope, network, d.level, d.time, d.until


def _of_peer(d: Decision) -> bool:
    return d.origin.startswith("peer:")


def _good(subject: str, good: Good) -> Row:
    network = address.network_of(subject)
    counts = (good.day, good.days, good.deliveries, good.logins, good.last_login)
    return subject, network, good.seen, *counts
