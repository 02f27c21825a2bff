"""Records decisions, evidence and positions in the store.

A store that fails stops nothing: what could not be recorded is pending here (at most `_PENDING`
decisions, then the oldest are evicted) and is recorded, a piece at a time, when the store works
again: it is tried once a second. Evidence and positions are one transaction: evidence that is
recorded apart from the position of its lines is counted twice after a kill.

Owns the store, what is pending for it, and the pending unbans. Blocks as long as SQLite does.
"""

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from throttled import address
from throttled.clock import Moment
from throttled.core.unbans import PendingUnbans
from throttled.errors import StoreError, ThrottledError
from throttled.model import (
    RESTRICTING,
    SCOPES,
    Activity,
    Crossing,
    Decision,
    Element,
    Evidence,
    NetworkPast,
    Past,
    Scope,
)
from throttled.skipped import Skipped
from throttled.store.store import Store, StoredPosition

log = logging.getLogger(__name__)

_PENDING = 100_000
#: Pending decisions in one transaction: 0.1 s.
_PIECE = 5_000
#: Decisions, and pieces of evidence, that are written ahead: a row of a few pages.
_FEW = 16
#: Seconds after which a store that failed is asked again: one that is locked costs 0.1 s.
_PATIENCE = 1.0
#: Good senders of a /24 or a /64 that get an entry of their own: the best of them. A /64 is mostly
#: one host, which could make any number of its addresses good before it attacks.
_SENDERS, _SENDERS_64 = 256, 16

Key = tuple[str, Scope]
Pasts = tuple[Mapping[Key, Past], Mapping[Key, NetworkPast]]
_Pending = TypeVar("_Pending", Decision, Evidence)


class Recorder:
    """The store, as the rest of the way sees it."""

    def __init__(self, store: Store, skipped: Skipped) -> None:
        """Take a store.

        Args:
            store: where everything is recorded.
            skipped: where unexpected errors of single rows are counted.
        """
        self.store = store
        self.error: StoreError | None = None  # it cannot be written
        self.unread: StoreError | None = None  # it cannot be read
        self.unbans = PendingUnbans()
        #: Called with the addresses that good evidence is about.
        self.evident: Callable[[Iterable[str]], object] = lambda _addresses: None
        self.errors = 0
        self.given_up = 0  # decisions and evidence, as too much waited
        self._skipped = skipped
        self._decisions: list[Decision] = []
        self._evidence: list[Evidence] = []
        self._activity: Counter[Activity] = Counter()
        self._failed = 0.0  # boot clock, when the store failed last

    def pending(self) -> int:
        """Return how many decisions are not recorded yet."""
        return len(self._decisions)

    def add(self, evidence: Sequence[Evidence], activity: Mapping[Activity, int]) -> None:
        """Take evidence and what happened; it is recorded with the next positions."""
        if activity:
            self._activity.update(activity)
        if evidence:
            self._evidence += evidence
            self.evident(one.subject for one in evidence)

    def record(
        self,
        now: Moment,
        decisions: Sequence[Decision] = (),
        positions: Sequence[StoredPosition] | None = None,
    ) -> None:
        """Record in one transaction, or remember.

        Where a store that failed works again, each call records a piece of what waits; positions
        come with the last of it, so that no line is taken as processed whose decision waits.

        Args:
            now: both clocks.
            decisions: what was decided.
            positions: how far the logs have been read, if all that was read is counted: evidence
                is recorded with them. None: not known, evidence waits.
        """
        waited = bool(self._decisions)
        self._decisions = self._latest([*self._decisions, *decisions])
        self._evidence = self._latest(self._evidence)
        if self.error is not None and 0 <= now.boot - self._failed < _PATIENCE:
            return
        # New decisions go together, however many: they are recorded before they are applied.
        piece = self._decisions[: _PIECE if waited else None]
        evidence = self._evidence[: 0 if positions is None else _PIECE]
        whole = len(piece) == len(self._decisions) and len(evidence) == len(self._evidence)
        if positions is None or not whole:
            positions, activity = (), Counter[Activity]()
        else:
            activity = self._activity
        try:
            self.unbans.flush(self.store)
            self._write(now.wall, piece, evidence, positions, activity)
        except StoreError as error:
            self._fails(error, now)
            return
        if self.error is not None:
            log.warning("the database works again; %d decisions were pending", len(self._decisions))
            self.error = None
        del self._decisions[: len(piece)], self._evidence[: len(evidence)]
        activity.clear()

    def write_ahead(
        self, now: Moment, decisions: Sequence[Decision], positions: Sequence[StoredPosition]
    ) -> bool:
        """Write a few decisions as one row, in a third of the time that `record` takes.

        `record` is to follow without them once they are applied: they are pending until then.

        Args:
            now: both clocks.
            decisions: what was decided.
            positions: as for `record`.

        Returns:
            Whether that could be, or the store fails, which then is not tried twice; where anything
            else is pending, or an exemption may be refused, it is left to `record`.
        """
        few = len(decisions) <= _FEW and len(self._evidence) <= _FEW
        pending = self._decisions or self.unbans or self.error is not None
        if not few or pending or any(d.action == "exempt" for d in decisions):
            return False
        try:
            self.store.write_ahead(now.wall, decisions, self._evidence, positions, self._activity)
        except StoreError as error:  # a locked one has waited
            self._fails(error, now)
        except Exception:  # noqa: BLE001 - reported by `record`
            return False
        self._decisions = list(decisions)
        return True

    def unban(
        self,
        subject: str,
        scope: Scope | None,
        now: Moment,
        exempt_until: float = 0.0,
    ) -> int:
        """Reset what was decided; what the kernel has is not touched.

        Args:
            subject: whom; "" = everybody.
            scope: where; None = everywhere.
            now: both clocks.
            exempt_until: see `Unbans.unban`.

        Returns:
            How many rows were active.

        Raises:
            StoreError: it could not be recorded; it is as soon as the store works, see `unbans`.
        """
        scopes = SCOPES if scope is None else (scope,)
        self._decisions = [
            d for d in self._decisions if d.scope not in scopes or subject not in ("", d.subject)
        ]
        try:
            if subject:
                return len(self.store.unbans.unban(subject, scope, now.wall, exempt_until))
            return self.store.unbans.clear(now.wall, scope)
        except StoreError:
            self.unbans.add([(subject, one) for one in scopes], now.wall, exempt_until)
            raise

    def drop(self, keys: Container[Key]) -> None:
        """Record no pending decisions about these subjects."""
        self._decisions = [d for d in self._decisions if (d.subject, d.scope) not in keys]

    def unban_many(self, exempt: Mapping[Key, float], now: Moment) -> None:
        """Reset what was decided about many subjects; see `unban`.

        Args:
            exempt: see `Store.unban_many`.
            now: both clocks.

        Raises:
            StoreError: it could not be recorded; it is as soon as the store works.
        """
        self.drop(exempt)
        try:
            self.store.unbans.unban_many(exempt, now.wall)
        except StoreError:
            for key, until in exempt.items():
                self.unbans.add([key], now.wall, until)
            raise

    def change_store(self, store: Store, now: Moment, decisions: Sequence[Decision]) -> None:
        """Remember in another store from now on.

        Args:
            store: it.
            now: both clocks.
            decisions: what is active and that store does not know; these, and what the one
                before could not record, are recorded a piece at a time.
        """
        self.store = store
        self.error = self.unread = None
        self._decisions[:0] = decisions
        self.record(now)

    def past(self, crossings: Sequence[Crossing], now: Moment) -> Pasts:
        """Return what is known of clients that crossed a limit, and of their networks."""
        crossed = [(crossing.subject, crossing.scope) for crossing in crossings]
        keys = [key for key in crossed if not address.is_network(key[0])]
        networks = {
            (network, scope) for subject, scope in keys if (network := address.network_of(subject))
        }
        networks.update(key for key in crossed if address.is_network(key[0]))
        # What was done in this very batch speaks for a client too; recorded it is not yet.
        concerned = {subject for subject, _ in keys} | {network for network, _ in networks}
        evidence = [
            e
            for e in (self._evidence if self.error is None else ())
            if e.subject in concerned or address.network_of(e.subject) in concerned
        ]
        try:
            found = self._past_with(evidence, keys, sorted(networks), now.wall)
        except StoreError as error:
            if self.unread is None:
                log.error(
                    "%s; deciding without the history of clients. %s", error.message, error.hint
                )
            self.unread = error
            return {}, {}
        self.unread = None
        if self.unbans:
            return self.unbans.pasts(found[0]), self.unbans.pasts(found[1])
        return found

    def senders(
        self, network: str, scope: Scope, until: float, now: Moment, only: str = ""
    ) -> list[str]:
        """Return the good senders of a network; none where the store cannot be read.

        Args:
            network: canonical.
            scope: where it is active.
            until: when that ends, wall clock.
            now: both clocks.
            only: of this address alone.
        """
        evidence = [e for e in self._evidence if address.inside(e.subject, network)]
        most = _SENDERS_64 if address.version(network) == 6 else _SENDERS
        try:
            return self.store.good_senders(
                network, scope, until, now.wall, most, evidence=evidence, only=only
            )
        except StoreError as error:
            log.warning("known good senders in %s are not exempt: %s", network, error.message)
        except Exception as error:  # noqa: BLE001 - the decision on the network stands
            self._skipped.add("row", error, network)
        return []

    def without_refused(self, decisions: Sequence[Decision], now: Moment) -> Sequence[Decision]:
        """Leave out exemptions that the store did not take: a throttle or a ban is active."""
        keys = [(d.subject, d.scope) for d in decisions if d.action == "exempt"]
        if not keys:
            return decisions
        try:
            pasts = self.store.past(keys, now.wall)
        except StoreError:  # reported where it was recorded
            return decisions
        refused = {key for key, past in pasts.items() if past.action in RESTRICTING}
        refused -= {key for key in keys if self.unbans.covers(*key)}
        return [d for d in decisions if d.action != "exempt" or (d.subject, d.scope) not in refused]

    def packets(self, elements: Sequence[Element]) -> None:
        """Add packet counters that are about to be set to zero to those of the store."""
        if not elements or self.error is not None:  # a locked one delays each batch by 0.1 s
            return
        try:
            self.store.active.packets(elements)
        except StoreError as error:
            log.warning("packet counters of renewed entries are lost: %s", error.message)

    def _fails(self, error: StoreError, now: Moment) -> None:
        if self.error is None:
            log.error(
                "%s; decisions are enforced, and recorded later. %s", error.message, error.hint
            )
        self.error = error
        self._failed = now.boot
        self.errors += 1

    def _past_with(
        self,
        evidence: Sequence[Evidence],
        keys: Sequence[Key],
        networks: Sequence[Key],
        wall: float,
    ) -> Pasts:
        if evidence:
            with suppress(StoreError):  # a store that cannot be written may well be read
                return self.store.pasts(keys, networks, wall, evidence)
        return self.store.pasts(keys, networks, wall)

    def _write(
        self,
        wall: float,
        decisions: Sequence[Decision],
        evidence: Sequence[Evidence],
        positions: Sequence[StoredPosition],
        activity: Mapping[Activity, int],
    ) -> None:
        """Record in one transaction; if anything in it cannot be recorded, the others in several.

        Raises:
            StoreError: the store fails.
        """
        record = self.store.record
        try:
            record(wall, decisions, evidence, positions, activity)
        except ThrottledError:
            raise
        except Exception:  # noqa: BLE001 - counted where it is found
            self._skipped.each("decision", decisions, lambda some: record(wall, some))
            self._skipped.each("evidence", evidence, lambda some: record(wall, (), some))
            self._skipped.each("position", positions, lambda some: record(wall, (), (), some))
            self._skipped.run("activity", [activity], lambda one: record(wall, (), (), (), one))

    def _latest(self, pending: list[_Pending]) -> list[_Pending]:
        self.given_up += max(0, len(pending) - _PENDING)
        return pending[-_PENDING:]
