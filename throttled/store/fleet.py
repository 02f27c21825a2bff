"""What this host has for the others of its fleet, and what is active of theirs. Owns no state.

The history is the outbox: it is read by number, so nothing waits in memory and a kill loses
nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from throttled.model import SCOPES, Decision, Scope
from throttled.store import load
from throttled.store.database import CHUNK, Database
from throttled.store.good import MEMORY, day_of
from throttled.store.load import Key
from throttled.store.rows import structs

_PEERS = "origin >= 'peer:' AND origin < 'peer;'"
_LISTS = "origin >= 'list:' AND origin < 'list;'"
_ADDRESS = """substr(subject, 1, 8) NOT IN ('account:', 'mailbox:')
    AND substr(subject, 1, 7) <> 'domain:' AND substr(subject, 1, 4) <> 'uid:'"""
# What is on a list each host imports by itself.
_OWN = f"""NOT ({_PEERS}) AND NOT ({_LISTS})
    AND "limit" NOT IN ('network', 'ladder', 'overload') AND {_ADDRESS}"""
#: Seconds by which an unban may be in the future; one of later is of before the clock was set back.
AHEAD = 60.0
# What this host's log or operators decided last about a subject, or a peer since a time, if it is
# not over and nobody unbanned it since. What lists name is in `listed`. A release by a peer or a
# list ends its own decisions alone.
_REMAINING = f"""
SELECT {load.DECISION} FROM decision d
WHERE subject = ?1 AND scope = ?2 AND until > ?3 AND action IN ('ban', 'throttle')
    AND NOT ({_LISTS}) AND (NOT ({_PEERS}) OR ?4 IS NOT NULL AND time > coalesce(
        (SELECT value FROM json_each(?4) WHERE key = substr(d.origin, 6)), 0))
    AND number > (SELECT coalesce(max(number), 0) FROM decision
        WHERE subject = ?1 AND scope = ?2 AND action = 'release'
            AND (origin = d.origin OR NOT ({_PEERS}) AND NOT ({_LISTS})))
    AND NOT EXISTS (SELECT 1 FROM pardon WHERE subject IN (?1, '') AND scope = ?2
        AND at <= ?3 + {AHEAD} AND (at >= d.time OR d.time > ?3 + {AHEAD}))
ORDER BY action = 'ban' DESC, until DESC LIMIT 1
"""  # noqa: S608 - put together from constants
_UNBANNED_LATEST = "SELECT max(at) FROM pardon"
_UNBANNED_ALL = "SELECT max(at) FROM pardon WHERE subject = '' AND scope = ? AND at <= ?"
_UNBANNED_SINCE = """
SELECT p.subject, p.at FROM json_each(?3) s
    JOIN pardon p ON p.subject = s.value AND p.scope = ?1 AND p.at <= ?2
"""
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


class Fleet:
    """What the fleet is to know of the history, and what it made active here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._skipped = database.skipped

    def outbox(self, after: int, now: float, count: int = CHUNK) -> tuple[list[Own], int]:
        """Return what the fleet is to know of the `count` decisions after a number.

        Returns:
            Bans that are active and operators' unbans, and the number of the last decision read.
        """
        ((end,),) = self._database.rows(_END, (after, count))
        rows = self._database.rows(_OUTBOX, (after, count, now))
        return structs(Own, rows, self._skipped), end

    def cleared(
        self, after: int, until: int, scope: str, now: float, count: int
    ) -> tuple[list[Own], int]:
        """Return what an `unban --all` unbanned, and how far the history was looked at.

        Args:
            after: number of the decision after which is looked.
            until: number of the last decision before the unban.
            scope: "" for all.
            now: wall clock.
            count: maximum number of rows.
        """
        ((end,),) = self._database.rows(_END, (after, _WINDOW))
        found = self._database.rows(_CLEARED, (after, _WINDOW, now, until, scope, count))
        looked = found[-1][0] if len(found) == count else min(end, until)
        return structs(Own, found, self._skipped), looked

    def own(self, after: int, now: float, count: int = CHUNK) -> tuple[list[Own], int | None]:
        """Return bans of this host that are active, the earliest decided first.

        Returns:
            Those of the next `count` rows that can be read, and the number of the last of these
            rows; None: there are no more.
        """
        rows = self._database.rows(_ACTIVE, (after, count, now))
        return structs(Own, rows, self._skipped), rows[-1][0] if len(rows) == count else None

    def remaining(
        self, keys: Iterable[Key], now: float, peers: Mapping[str, float] | None = None
    ) -> list[Decision]:
        """Return the strongest of what was decided about each subject, and is not over.

        Args:
            keys: subjects and scopes.
            now: wall clock.
            peers: after when the decisions of peers count, by name; of others all do. None: only
                what this host itself decided counts.
        """
        since = None if peers is None else msgspec.json.encode(peers).decode()
        rows = [row for key in keys for row in self._database.rows(_REMAINING, (*key, now, since))]
        return structs(Decision, map(load.decision, rows), self._skipped)

    def unbanned_since(self, keys: Sequence[Key], since: float, now: float) -> dict[Key, float]:
        """Return when subjects were unbanned since a time, wall clock; others may be missing."""
        found: dict[Key, float] = {}
        ((latest,),) = self._database.rows(_UNBANNED_LATEST)
        if latest is None or latest < since:
            return found
        for scope in SCOPES:
            subjects = [subject for subject, of in keys if of == scope]
            if not subjects:
                continue
            values = scope, now + AHEAD
            ((every,),) = self._database.rows(_UNBANNED_ALL, values)
            if every:
                found |= dict.fromkeys([(subject, scope) for subject in subjects], every)
            asked = msgspec.json.encode(subjects).decode()
            for subject, at in self._database.rows(_UNBANNED_SINCE, (*values, asked)):
                found[subject, scope] = max(at, every or 0.0)
        return found

    def last(self) -> int:
        """Return the number of the latest decision; 0: there is none."""
        ((number,),) = self._database.rows(_LAST)
        return int(number)

    def counts(self, now: float) -> dict[str, int]:
        """Return how many entries are active of each peer, by its name."""
        rows = self._database.rows(_COUNTS, (now,))
        return {origin.removeprefix("peer:"): count for origin, count in rows}

    def count(self, peer: str, now: float) -> int:
        """Return how many entries are active of one peer."""
        ((number,),) = self._database.rows(_OF, (f"peer:{peer}", now))
        return int(number)

    def good(self, first: str, beyond: str, now: float, most: int) -> list[str]:
        """Return good senders of networks whose names are from `first` on and before `beyond`."""
        rows = self._database.rows(_GOOD, (first, beyond, day_of(now) - MEMORY, most))
        return [address for (address,) in rows]
