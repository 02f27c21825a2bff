"""User names that bots try on several hosts of a fleet: published from here, counted from there.

Names of clients with good evidence here are neither published nor counted: an office behind one
address has many names. What a name from elsewhere leads to is judged as a ban of that peer.

Owns the tags that are pending, see `throttled.decide.tried`.
"""

from collections import Counter
from collections.abc import Sequence

from throttled import address
from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.decide.peers import PeerBan, Peers, has_good_evidence
from throttled.decide.tried import Tried
from throttled.fleet.wire import Names
from throttled.model import Crossing, Past, Scope
from throttled.store.store import Store

#: Seconds for which names are collected.
COLLECTED = 0.9


class SharedNames:
    """Names tried here, and those tried at peers."""

    def __init__(self, pipeline: Pipeline, secret: bytes, since: float) -> None:
        """Count names by their tags from now on.

        Args:
            pipeline: whose engine counts them.
            secret: of the fleet.
            since: names tried before, on the boot clock, are not published.
        """
        self.tried = Tried(secret, since)
        self._pipeline = pipeline
        self._sent = since
        self._unbanned: dict[str, dict[Scope, float]] | None = None
        pipeline.engine.share_names(self.tried)

    @property
    def _store(self) -> Store:
        return self._pipeline.recorder.store

    def due(self, now: Moment) -> float | None:
        """Return after how many seconds there is something to publish; None: there is nothing."""
        return max(0.0, self._sent + COLLECTED - now.boot) if len(self.tried) else None

    def rows(self, now: Moment) -> list[Names]:
        """Return what is to be published now.

        Raises:
            StoreError: the history cannot be read.
        """
        if self.due(now) != 0.0:
            return []
        self._sent = now.boot
        rows = self.tried.drain()
        pasts = self._store.past([(client, scope) for client, scope, _ in rows], now.wall)
        unknown = Past()
        return [
            Names(client, scope, tags)
            for client, scope, tags in rows
            if not has_good_evidence(pasts.get((client, scope), unknown), now.wall)
        ]

    def count(
        self, rows: Sequence[Names], age: int, now: Moment, received: Counter[str], *, again: bool
    ) -> list[Crossing]:
        """Count names that clients tried at a peer; return the crossings.

        Args:
            rows: of an entry.
            age: of the entry, milliseconds.
            now: both clocks.
            received: outcomes, by tags.
            again: they were counted before the restart: nothing follows from them now.

        Raises:
            StoreError: the history cannot be read.
        """
        known = [row for row in rows if _is_address(row.client)]
        received["refused"] += sum(len(r.tags) for r in rows) - sum(len(r.tags) for r in known)
        seconds = max(0.0, age / 1000)
        keys = [(row.client, row.scope) for row in known]
        pasts = {} if again else self._store.past(keys, now.wall)
        unbanned = self._unbanned_since() if again else {}
        found: list[Crossing] = []
        for row in known:
            if unbanned.get(row.client, {}).get(row.scope, 0.0) >= now.wall - seconds:
                continue
            outcome = self._spared(row, pasts.get((row.client, row.scope), Past()), now)
            received[outcome or "counted"] += len(row.tags)
            if not outcome:
                at = now.boot - seconds
                found += self._pipeline.engine.elsewhere(*_what(row), at, now.boot)
        return [] if again else found

    def _spared(self, row: Names, past: Past, now: Moment) -> str:
        if self._pipeline.ladder.protection.reason(row.client):
            return "protected"
        if past.exempt_until > now.wall:
            return "exempt"
        return "good" if has_good_evidence(past, now.wall) else ""

    def _unbanned_since(self) -> dict[str, dict[Scope, float]]:
        if self._unbanned is None:
            self._unbanned = self._store.unbans.since()
        return self._unbanned


def bans(
    judge: Peers, peer: str, crossings: Sequence[Crossing], store: Store, now: Moment
) -> list[PeerBan]:
    """Return what follows from crossings, see `Peers.crossed`.

    Raises:
        StoreError: the history cannot be read.
    """
    pasts = store.past([(c.subject, c.scope) for c in crossings], now.wall)
    return judge.crossed(peer, crossings, pasts, now.wall)


def _what(row: Names) -> tuple[str, Scope, list[int]]:
    return row.client, row.scope, row.tags


def _is_address(client: str) -> bool:
    try:
        packed, prefix = address.parse(client)
    except ValueError:
        return False
    return address.text(packed, prefix) == client and not address.is_network(client)
