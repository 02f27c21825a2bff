"""What this host has for the others of its fleet, and what is active of theirs. Owns no state.

The history is the outbox: it is read by number, so nothing waits in memory and a kill loses
nothing.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from throttled.model import SCOPES, Decision, Scope
from throttled.skipped import Skipped
from throttled.store import load, manual
from throttled.store.good import MEMORY, day_of
from throttled.store.load import Key
from throttled.store.rows import structs

_PEERS = "origin >= 'peer:' AND origin < 'peer;'"
_ADDRESS = """substr(subject, 1, 8) NOT IN ('account:', 'mailbox:')
    AND substr(subject, 1, 7) <> 'domain:' AND substr(subject, 1, 4) <> 'uid:'"""
# What is on a list each host imports by itself.
_OWN = f"""NOT ({_PEERS}) AND NOT (origin >= 'list:' AND origin < 'list;')
    AND "limit" NOT IN ('network', 'ladder', 'overload') AND {_ADDRESS}"""
# What this host's log or operators decided last about a subject that a peer or a list bans for
# longer now, if it is not over and nobody unbanned it since.
_EXTENDED = f"""
SELECT {load.DECISION} FROM decision
WHERE subject = ?1 AND scope = ?2 AND until > ?3 AND action IN ('ban', 'throttle')
    AND NOT ({_PEERS}) AND NOT (origin >= 'list:' AND origin < 'list;')
    AND number > (SELECT coalesce(max(number), 0) FROM decision
        WHERE subject = ?1 AND scope = ?2 AND action = 'release')
    AND time > (SELECT coalesce(max(at), 0) FROM pardon WHERE subject IN (?1, '') AND scope = ?2)
ORDER BY action = 'ban' DESC, until DESC LIMIT 1
"""  # noqa: S608 - put together from constants
_UNBANNED_LATEST = "SELECT max(at) FROM pardon"
_UNBANNED_ALL = "SELECT max(at) FROM pardon WHERE subject = '' AND scope = ? AND at <= ?"
_UNBANNED_SINCE = """
SELECT p.subject, p.at FROM json_each(?3) s
    JOIN pardon p ON p.subject = s.value AND p.scope = ?1 AND p.at <= ?2
"""
#: Seconds by which an unban may be in the future; one of later is of before the clock was set back.
_AHEAD = 60.0
# Nothing of an `unban --all` is in the history: what is not active was unbanned.
_BANNED = """
SELECT 1 FROM active a WHERE a.subject = d.subject AND a.scope = d.scope AND a.action = 'ban'
"""
_OUTBOX = f"""
SELECT number, action, subject, scope, "limit", level, until, value, threshold,
    coalesce((SELECT p.until FROM pardon p
        WHERE p.subject = d.subject AND p.scope = d.scope AND p.at >= d.time), 0.0)
FROM (SELECT * FROM decision WHERE number > ?1 ORDER BY number LIMIT ?2) d
WHERE {_OWN} AND (action = 'ban' AND until > ?3 AND EXISTS ({_BANNED})
    OR action = 'release' AND origin = 'operator' AND why = 'unbanned')
ORDER BY number
"""  # noqa: S608 - put together from constants of this module
_CLEARED = f"""
SELECT number, 'release', subject, scope, 'operator', 0, 0.0, 0, 0, 0.0
FROM (SELECT * FROM decision WHERE number > ?1 ORDER BY number LIMIT ?2) d
WHERE number <= ?4 AND action = 'ban' AND until > ?3 AND ?5 IN ('', scope)
    AND {_ADDRESS} AND NOT EXISTS ({_BANNED})
ORDER BY number LIMIT ?6
"""  # noqa: S608 - as above
_LAST = "SELECT coalesce(max(number), 0) FROM decision"
_END = """
SELECT coalesce(max(number), ?1)
    FROM (SELECT number FROM decision WHERE number > ?1 ORDER BY number LIMIT ?2)
"""
_ACTIVE = f"""
SELECT number, action, subject, scope, "limit", level, until, 0, 0, 0.0
FROM active WHERE number > ?1 AND until > ?3 AND action = 'ban' AND {_OWN}
ORDER BY number LIMIT ?2
"""  # noqa: S608 - as above
_COUNTS = f"""
SELECT origin, count(*) FROM active WHERE {_PEERS} AND until > ? GROUP BY origin
"""  # noqa: S608 - as above
_OF = f"SELECT count(*) FROM active WHERE {_PEERS} AND origin = ? AND until > ?"  # noqa: S608 - so


#: Decisions that are looked at in a call: 10 ms.
_WINDOW = 10_000
_GOOD = """
SELECT address FROM good
WHERE network >= ? AND network < ? AND seen > ? AND max(deliveries, logins) >= 2 LIMIT ?
"""


class Own(Struct, frozen=True, gc=False):
    """A ban that this host decided, or an unban of its operator."""

    number: int  # of the decision
    action: Literal["ban", "release"]
    subject: str
    scope: Scope
    limit: str
    level: int
    until: float
    value: int
    threshold: int
    exempt_until: float  # of a release


def outbox(
    connection: sqlite3.Connection, after: int, count: int, now: float, skipped: Skipped
) -> tuple[list[Own], int]:
    """Return what is to be published of the next decisions, and the number of the last of them."""
    (end,) = connection.execute(_END, (after, count)).fetchone()
    rows = connection.execute(_OUTBOX, (after, count, now))
    return structs(Own, rows, skipped), end


def cleared(  # noqa: PLR0913, PLR0917 - a part of the history, and when
    connection: sqlite3.Connection,
    after: int,
    until: int,
    scope: str,
    now: float,
    count: int,
    skipped: Skipped,
) -> tuple[list[Own], int]:
    """Return what an `unban --all` unbanned, and how far the history was looked at.

    Args:
        connection: to the database.
        after: number of the decision after which is looked.
        until: number of the last decision before the unban.
        scope: "" for all.
        now: wall clock.
        count: maximum number of rows.
        skipped: where rows that cannot be read are counted.
    """
    (end,) = connection.execute(_END, (after, _WINDOW)).fetchone()
    values = (after, _WINDOW, now, until, scope, count)
    found = connection.execute(_CLEARED, values).fetchall()
    looked = found[-1][0] if len(found) == count else min(end, until)
    return structs(Own, found, skipped), looked


def own(
    connection: sqlite3.Connection, after: int, count: int, now: float, skipped: Skipped
) -> tuple[list[Own], int | None]:
    """Return bans of this host that are active, the earliest decided first.

    Returns:
        Those of the next `count` rows that can be read, and the number of the last of these rows;
        None: there are no more.
    """
    rows = connection.execute(_ACTIVE, (after, count, now)).fetchall()
    return structs(Own, rows, skipped), rows[-1][0] if len(rows) == count else None


def extended(
    connection: sqlite3.Connection, keys: Iterable[Key], now: float, skipped: Skipped
) -> list[Decision]:
    """Return what this host itself decided about subjects that others ban for longer now."""
    rows = [row for key in keys for row in connection.execute(_EXTENDED, (*key, now))]
    return structs(Decision, map(load.decision, rows), skipped)


def unban(  # noqa: PLR0913, PLR0917 - what, of whom, and when
    connection: sqlite3.Connection,
    exempt: Mapping[Key, float],
    noted: Iterable[Key],
    published: float,
    now: float,
    origin: str,
) -> None:
    """Record unbans of a peer, see `Store.unban_of_peer`."""
    for key, until in exempt.items():
        manual.remove(connection, key, now, origin)
        manual.note_unban(connection, key, published, until)
    for key in noted:
        manual.note_unban(connection, key, published)


def unbanned(
    connection: sqlite3.Connection, keys: Sequence[Key], since: float, now: float
) -> dict[Key, float]:
    """Return when subjects were unbanned since a time; others may be missing."""
    found: dict[Key, float] = {}
    (latest,) = connection.execute(_UNBANNED_LATEST).fetchone()
    if latest is None or latest < since:
        return found
    for scope in SCOPES:
        subjects = [subject for subject, of in keys if of == scope]
        if not subjects:
            continue
        values = scope, now + _AHEAD
        (every,) = connection.execute(_UNBANNED_ALL, values).fetchone()
        if every:
            found |= dict.fromkeys([(subject, scope) for subject in subjects], every)
        asked = msgspec.json.encode(subjects).decode()
        for subject, at in connection.execute(_UNBANNED_SINCE, (*values, asked)):
            found[subject, scope] = max(at, every or 0.0)
    return found


def last(connection: sqlite3.Connection) -> int:
    """Return the number of the latest decision; 0: there is none."""
    (number,) = connection.execute(_LAST).fetchone()
    return int(number)


def counts(connection: sqlite3.Connection, now: float) -> dict[str, int]:
    """Return how many entries are active of each peer, by its name."""
    rows = connection.execute(_COUNTS, (now,))
    return {origin.removeprefix("peer:"): count for origin, count in rows}


def count(connection: sqlite3.Connection, peer: str, now: float) -> int:
    """Return how many entries are active of one peer."""
    (number,) = connection.execute(_OF, (f"peer:{peer}", now)).fetchone()
    return int(number)


def good(
    connection: sqlite3.Connection, first: str, beyond: str, now: float, most: int
) -> list[str]:
    """Return good senders of networks whose names are from `first` on and before `beyond`."""
    rows = connection.execute(_GOOD, (first, beyond, day_of(now) - MEMORY, most))
    return [address for (address,) in rows]
