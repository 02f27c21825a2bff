"""What must survive a restart, in one SQLite file: the interface of this package.

`Store` opens it, and has what spans tables: decisions and what follows from them. Each other table
is an attribute, and a module of its own.

Owns the connection. Every call blocks, for as long as SQLite takes, and belongs to the thread that
opened the store. Every call may raise `StoreError`; then nothing of it was recorded, and the store
can be used again as soon as the error is gone. Limits: see `prune`.

Times are wall-clock seconds since the epoch. Where the clock goes backwards, what had ended comes
back for at most as long as it went back, and nothing stays longer than it was decided for.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Self

from throttled.errors import StoreError
from throttled.model import Activity, Decision, Evidence, NetworkPast, Past, Scope
from throttled.skipped import Skipped
from throttled.store import ahead, hourly, load, record
from throttled.store.active import Active, Shift
from throttled.store.allowlist import Allowlist
from throttled.store.audit import Audit
from throttled.store.database import Database
from throttled.store.fleet import Fleet
from throttled.store.host import Hosts
from throttled.store.hourly import Hourly, Hours
from throttled.store.known import Known
from throttled.store.listed import Claims
from throttled.store.listing import Cursor, Filter, Listing, Order
from throttled.store.migrate import scripts
from throttled.store.peaks import Peaks
from throttled.store.period import Period
from throttled.store.positions import Positions
from throttled.store.prune import prune
from throttled.store.rows import Allowed, StoredPosition
from throttled.store.senders import Senders
from throttled.store.unbans import Unbans

__all__ = ["Allowed", "Cursor", "Filter", "Hourly", "Order", "Shift", "Store", "StoredPosition"]

Key = tuple[str, Scope]


class Store:
    """The database, open. Made by `Store.open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.active = Active(database)
        self.allowlist = Allowlist(database)
        self.audit = Audit(database)
        self.fleet = Fleet(database)
        self.hosts = Hosts(database)
        self.hourly = Hours(database)
        self.known = Known(database)
        self.listing = Listing(database)
        self.peaks = Peaks(database)
        self.positions = Positions(database)
        self.senders = Senders(database)
        self.claims = Claims(database)
        self.unbans = Unbans(database)
        self._ahead = False  # a row of `write_ahead` is to be removed

    @classmethod
    def open(cls, path: str, *, readonly: bool = False, beside: bool = False) -> Self:
        """Open the database, and create or migrate it first unless `readonly`.

        Args:
            path: the file; its directory must exist. ":memory:" for one that is not kept.
            readonly: only read; the file must exist and be up to date.
            beside: a daemon may run with it, and is to record itself what it wrote ahead.

        Raises:
            StoreError: no directory, not permitted, not a database, damaged, locked, too new.
        """
        store = cls(Database(path, readonly=readonly, migrations=scripts()))
        if not readonly and not beside:
            try:
                store._complete()
            except BaseException:
                store.close()
                raise
        return store

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def skipped(self) -> Skipped:
        """Rows that another program altered so that they are none."""
        return self._database.skipped

    def gone(self) -> bool:
        """Return whether the file was deleted or replaced since it was opened."""
        return self._database.gone()

    # What is known

    def past(self, keys: Sequence[Key], now: float) -> dict[Key, Past]:
        """Return what is known of each subject, `Past()` where that is nothing."""
        with self._database.guard() as connection:
            return load.past(connection, keys, now, self.skipped)

    def network_past(self, keys: Sequence[Key], now: float) -> dict[Key, NetworkPast]:
        """Return what is known of each network (see `address.network_of`); counts end at 1,000."""
        with self._database.guard() as connection:
            return load.network_past(connection, keys, now, self.skipped)

    def pasts(
        self,
        keys: Sequence[Key],
        networks: Sequence[Key],
        now: float,
        evidence: Sequence[Evidence] = (),
    ) -> tuple[dict[Key, Past], dict[Key, NetworkPast]]:
        """Return `past` and `network_past` as they will be when the evidence is recorded."""
        database = self._database
        with database.rehearsal() if evidence else database.guard() as connection:
            if evidence:
                record.evidence(connection, evidence, now)
            return (
                load.past(connection, keys, now, self.skipped),
                load.network_past(connection, networks, now, self.skipped),
            )

    def good_senders(  # noqa: PLR0913 - which network, as of when, how many
        self,
        network: str,
        scope: Scope,
        until: float,
        now: float,
        most: int,
        *,
        evidence: Sequence[Evidence] = (),
        only: str = "",
    ) -> list[str]:
        """Return the good senders of a network that need an entry of their own, the best first.

        A good sender delivered or logged in more than once within 30 days, is not throttled or
        banned and was not banned within a day.

        Args:
            network: which.
            scope: where.
            until: a sender with an entry until then needs none.
            now: wall clock.
            most: maximum number of the best ones of the network, those with an entry included.
            evidence: what is not recorded yet.
            only: whether this address is one; "": all.
        """
        with self._database.rehearsal() as connection:
            if evidence:
                record.evidence(connection, evidence, now)
            return load.senders(connection, network, scope, until, now, most, only)

    def exempted(self, network: str, scope: Scope, now: float) -> list[str]:
        """Return the good senders that are exempt from what is active against networks."""
        with self._database.guard() as connection:
            return load.exempted(connection, network, scope, now)

    def good_addresses(self, after: str, now: float, count: int) -> list[str]:
        """Return addresses whose evidence may make them known good, from one on, in order."""
        with self._database.guard() as connection:
            return load.good_addresses(connection, after, now, count)

    def decisions(self, subject: str, limit: int = 20) -> list[Decision]:
        """Return the history of a subject, or of all (""), newest first."""
        with self._database.guard() as connection:
            return load.decisions(connection, subject, limit, self.skipped)

    # What happens

    def record(
        self,
        now: float,
        decisions: Sequence[Decision],
        evidence: Sequence[Evidence] = (),
        positions: Sequence[StoredPosition] = (),
        activity: Mapping[Activity, int] = MappingProxyType({}),
    ) -> None:
        """Record a batch in one transaction.

        A ban replaces what is active against its subject and scope and, with a level, becomes
        its `offences`. A throttle replaces a throttle or an exemption, not a ban that is active;
        an exemption replaces neither. A release takes away what is active. Decisions about one
        subject count in their order.

        Args:
            now: wall clock; evidence from later is taken as from now.
            decisions: what was decided.
            evidence: what good addresses did.
            positions: how far the logs have been read.
            activity: how many sessions, deliveries and logins the lines up to there had.
        """
        with self._database.transaction() as connection:
            if self._ahead:
                ahead.clear(connection)
            if decisions:
                record.decisions(connection, decisions)
                hourly.decisions(connection, decisions, now)
            if activity:
                hourly.activity(connection, activity, now)
            if evidence:
                record.evidence(connection, evidence, now)
            record.positions(connection, positions)
        self._ahead = False

    def write_ahead(
        self,
        now: float,
        decisions: Sequence[Decision],
        evidence: Sequence[Evidence],
        positions: Sequence[StoredPosition],
        activity: Mapping[Activity, int],
    ) -> None:
        """Write as one row what `record` is called with next; it removes the row.

        What is read in between does not know of it. See `throttled.store.ahead`.
        """
        row = ahead.encode(now, decisions, evidence, positions, activity)
        self._database.execute(ahead.WRITE, (row,))
        self._ahead = True

    def _complete(self) -> None:
        """Record what the process before wrote ahead, but for what was unbanned since.

        Where that cannot be, the next `record` removes the row: its positions are not recorded
        either, so that its lines are read and decided again.
        """
        try:
            with self._database.guard() as connection:
                found = ahead.read(connection)
            self._ahead = found is not None
            if found is not None:
                unbans = self.unbans.all()
                decisions = [d for d in found.decisions if not _unbanned(d, unbans)]
                batch = decisions, found.evidence, found.positions, dict(found.activity)
                self.record(found.now, *batch)
        except StoreError:  # as of no space: what can be read is used
            pass
        except Exception as error:  # noqa: BLE001 - of another version, or altered
            self.skipped.add("row", error, "write_ahead")
            self._ahead = True

    def period(self, since: float, until: float) -> Period:
        """Return what reads the decisions of a period, for reports."""
        return Period(self._database, since, until)

    def prune(self, now: float) -> bool:
        """Delete some of what is old, write the log back; return whether to call again soon."""
        with self._database.transaction() as connection:
            more = prune(connection, now, self.claims)
        self._database.checkpoint()
        return more


def _unbanned(decision: Decision, unbans: Mapping[Key, tuple[float, float]]) -> bool:
    """Return whether its subject, or everybody, was unbanned after a decision."""
    keys = (decision.subject, decision.scope), ("", decision.scope)
    return any(decision.time < unbans[key][0] for key in keys if key in unbans)
