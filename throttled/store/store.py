"""What must survive a restart, in one SQLite file: the interface of this package.

Owns the connection and a cache of log sources. Every call blocks, for as long as SQLite takes, and
belongs to the thread that opened the store. Every call may raise `StoreError`; then nothing of it
was recorded, and the store can be used again as soon as the error is gone. Limits: see `prune`.

Times are wall-clock seconds since the epoch. Where the clock goes backwards, what had ended comes
back for at most as long as it went back, and nothing stays longer than it was decided for.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Self

from throttled.model import (
    ACTIONS,
    SCOPES,
    Action,
    Activity,
    Change,
    Decision,
    Element,
    Entry,
    Evidence,
    NetworkPast,
    Past,
    Peak,
    Report,
    Scope,
    SenderDay,
    SenderRow,
    Snapshot,
)
from throttled.skipped import Skipped
from throttled.store import (
    audit,
    find,
    fleet,
    host,
    hourly,
    listing,
    load,
    manual,
    names,
    peaks,
    record,
    senders,
)
from throttled.store.database import Database
from throttled.store.hourly import Hourly
from throttled.store.listing import Cursor, Filter, Order, Shift
from throttled.store.migrate import scripts
from throttled.store.period import Period
from throttled.store.prune import prune
from throttled.store.rows import Allowed, StoredPosition, signed, unsigned

__all__ = ["Allowed", "Cursor", "Filter", "Hourly", "Order", "Shift", "Store", "StoredPosition"]

Key = tuple[str, Scope]
_ALL = Filter()
_CHUNK = 10_000
_CACHED = 1000
_UNBANS = 100_000
_KNOWN = "SELECT value FROM known WHERE name = ? AND typeof(value) = 'blob'"


class Store:
    """The database, open. Made by `Store.open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sources: dict[tuple[str, int, int, bytes], int] = {}
        listing.register(database.connection)

    @classmethod
    def open(cls, path: str, *, readonly: bool = False) -> Self:
        """Open the database, and create or migrate it first unless `readonly`.

        Args:
            path: the file; its directory must exist. ":memory:" for one that is not kept.
            readonly: only read; the file must exist and be up to date.

        Raises:
            StoreError: no directory, not permitted, not a database, damaged, locked, too new.
        """
        return cls(Database(path, readonly=readonly, migrations=scripts()))

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

    # Log sources

    def source(self, path: str, device: int, inode: int, mark: bytes = b"") -> int:
        """Return the number of a log file (`Line.source`); a new one is recorded at once.

        Args:
            path: as configured.
            device: with `inode`, which file it is.
            inode: see `device`.
            mark: its fingerprint; b"" where there is none. A file that grew longer than its
                fingerprint was becomes another source.
        """
        key = (path, signed(device), signed(inode), mark)
        number = self._sources.get(key)
        if number is None:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO source (path, device, inode, mark) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    key,
                )
                (number,) = connection.execute(
                    "SELECT number FROM source"
                    " WHERE path = ? AND device = ? AND inode = ? AND mark = ?",
                    key,
                ).fetchone()
            if len(self._sources) >= _CACHED:
                self._sources.clear()
            self._sources[key] = number
        return number

    def source_file(self, number: int) -> tuple[str, int, int, bytes] | None:
        """Return (path, device, inode, mark) of a log file; None if it is no longer known."""
        with self._database.guard() as connection:
            row = connection.execute(
                "SELECT path, device, inode, mark FROM source WHERE number = ?", (number,)
            ).fetchone()
        return None if row is None else (row[0], unsigned(row[1]), unsigned(row[2]), row[3])

    def positions(self) -> dict[str, StoredPosition]:
        """Return how far each log has been read, by path."""
        with self._database.guard() as connection:
            return load.positions(connection)

    def remove_positions(self, paths: Iterable[str]) -> None:
        """Remove how far logs have been read that are gone."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM position WHERE path = ?", ((p,) for p in paths))

    def backlog(self) -> dict[str, bytes]:
        """Return how far existing logs have been read for evidence, by path; empty: done."""
        with self._database.guard() as connection:
            return load.backlog(connection)

    def record_backlog(
        self, now: float, states: Iterable[StoredPosition], evidence: Sequence[Evidence] = ()
    ) -> None:
        """Record, in one transaction, how far existing logs have been read and what they say."""
        with self._database.transaction() as connection:
            if evidence:
                record.evidence(connection, evidence, now)
            record.backlog(connection, states)

    # What is known

    def past(self, keys: Sequence[Key], now: float) -> dict[Key, Past]:
        """Return what is known of each subject, `Past()` where that is nothing."""
        with self._database.guard() as connection:
            return load.past(connection, keys, now)

    def network_past(self, keys: Sequence[Key], now: float) -> dict[Key, NetworkPast]:
        """Return what is known of each network (see `address.network_of`); counts end at 1,000."""
        with self._database.guard() as connection:
            return load.network_past(connection, keys, now)

    def pasts(
        self,
        keys: Sequence[Key],
        networks: Sequence[Key],
        now: float,
        evidence: Sequence[Evidence] = (),
    ) -> tuple[dict[Key, Past], dict[Key, NetworkPast]]:
        """Return `past` and `network_past` as they will be when the evidence is recorded."""
        with self._database.rehearsal() as connection:
            if evidence:
                record.evidence(connection, evidence, now)
            return load.past(connection, keys, now), load.network_past(connection, networks, now)

    def senders(  # noqa: PLR0913 - which network, as of when, how many
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
            if decisions:
                record.decisions(connection, decisions)
                hourly.decisions(connection, decisions, now)
            if activity:
                hourly.activity(connection, activity, now)
            if evidence:
                record.evidence(connection, evidence, now)
            record.positions(connection, positions)

    def packets(self, elements: Iterable[Element]) -> None:
        """Record the kernel's counters, in transactions of 10,000.

        Packets add up while the same action continues, also when an element is renewed (recorded
        first, counters read before) or recreated, which sets the kernel's counter to zero. What a
        backend could not read, its seconds are nan then, says nothing.
        """
        every = (each for each in elements if not math.isnan(each.seconds))
        while chunk := list(islice(every, _CHUNK)):
            with self._database.transaction() as connection:
                record.packets(connection, chunk)

    def count_drops(self, counter: int, now: float) -> None:
        """Count the packets dropped since the last call, given the kernel's counter of all."""
        with self._database.transaction() as connection:
            hourly.drops(connection, counter, now)

    def hourly(self, since: float, until: float) -> list[Hourly]:
        """Return what happened, by hour, from the hour of `since` to before `until`."""
        with self._database.guard() as connection:
            return hourly.read(connection, since, until, self.skipped)

    def period(self, since: float, until: float) -> Period:
        """Return what reads the decisions of a period, for reports."""
        return Period(self._database, since, until)

    def totals(self, since: float) -> list[tuple[float, str, str, int]]:
        """Return what happened in each hour since then: begin, what, kind, count."""
        with self._database.guard() as connection:
            return hourly.totals(connection, since)

    def record_reports(self, reports: Sequence[Report]) -> None:
        """Record senders that crossed a limit."""
        with self._database.transaction() as connection:
            senders.report(connection, reports)

    def remove_senders(self, limits: Sequence[str]) -> None:
        """Delete what senders did, and all reports but those of some limits."""
        with self._database.transaction() as connection:
            senders.forget(connection, limits)

    def reports(self, since: float = 0.0, subject: str = "", count: int = 100) -> list[Report]:
        """Return reports not before `since`, of one subject or all (""), the latest first."""
        with self._database.guard() as connection:
            return senders.reports(connection, since, subject, count, self.skipped)

    def add_sender_days(self, days: Sequence[SenderDay]) -> None:
        """Add to what senders did in a day."""
        with self._database.transaction() as connection:
            senders.add(connection, days)

    def sender_days(self, subject: str) -> list[SenderDay]:
        """Return what a sender did in each day that is stored, the first day first."""
        with self._database.guard() as connection:
            return senders.days(connection, subject, self.skipped)

    def days_of_senders(self) -> list[int]:
        """Return the days (since the epoch) of which the store has senders, the first first."""
        with self._database.guard() as connection:
            return senders.stored_days(connection)

    def senders_in_day(self, day: int) -> list[SenderDay]:
        """Return what each sender did in a day (since the epoch)."""
        with self._database.guard() as connection:
            return senders.in_day(connection, day, self.skipped)

    def senders_of_day(self, day: int, text: str = "", kind: str = "") -> list[SenderRow]:
        """Return what senders did in a day (since the epoch); see `throttled.store.senders`."""
        with self._database.guard() as connection:
            return senders.of_day(connection, day, text, kind, self.skipped)

    def highest_days(self, before: int) -> dict[str, int]:
        """Return the most recipients of each sender in a day before one (since the epoch)."""
        with self._database.guard() as connection:
            return senders.highest(connection, before)

    def keep_peaks(self, reached: Sequence[Peak], watched: Iterable[peaks.Of], now: float) -> None:
        """Store peaks that are higher than before; see `throttled.store.peaks`.

        Args:
            reached: the peaks.
            watched: the limits whose peaks are recorded, also those without one now.
            now: wall clock.
        """
        with self._database.transaction() as connection:
            peaks.write(connection, reached, watched, now)

    def peaks(self, now: float) -> peaks.Kept:
        """Return all that clients reached in the last 30 days: up to a second."""
        with self._database.guard() as connection:
            return peaks.read(connection, now)

    # The fleet

    def outbox(self, after: int, now: float, count: int = _CHUNK) -> tuple[list[fleet.Own], int]:
        """Return what the fleet is to know of the `count` decisions after a number.

        Returns:
            Bans that are active and operators' unbans, and the number of the last decision read.
        """
        with self._database.guard() as connection:
            return fleet.outbox(connection, after, count, now, self.skipped)

    def cleared(
        self, after: int, until: int, scope: str, now: float, count: int
    ) -> tuple[list[fleet.Own], int]:
        """Return what an `unban --all` unbanned, see `throttled.store.fleet`."""
        with self._database.guard() as connection:
            return fleet.cleared(connection, after, until, scope, now, count, self.skipped)

    def own_bans(
        self, after: int, now: float, count: int = _CHUNK
    ) -> tuple[list[fleet.Own], int | None]:
        """Return bans of this host that are active, see `throttled.store.fleet.own`."""
        with self._database.guard() as connection:
            return fleet.own(connection, after, count, now, self.skipped)

    def extended(self, keys: Iterable[Key], now: float) -> list[Decision]:
        """Return own decisions about subjects, see `throttled.store.fleet.extended`."""
        with self._database.guard() as connection:
            return fleet.extended(connection, keys, now, self.skipped)

    def unban_of_peer(  # noqa: PLR0913 - what, of whom, and when
        self,
        exempt: Mapping[Key, float],
        noted: Iterable[Key],
        published: float,
        now: float,
        *,
        origin: str,
        changes: Iterable[Change],
        position: StoredPosition,
    ) -> None:
        """Record unbans of a peer with the position of its stream, in one transaction.

        Args:
            exempt: as of `unban_many`.
            noted: subjects of which nothing is active: bans of before may still come.
            published: when the peer published them, by the wall clock here.
            now: wall clock.
            origin: of the peer, see `Decision`.
            changes: for the audit record.
            position: after them.
        """
        with self._database.transaction() as connection:
            fleet.unban(connection, exempt, noted, published, now, origin)
            for change in changes:
                audit.write(connection, change)
            record.positions(connection, [position])

    def unbanned(self, keys: Sequence[Key], since: float, now: float) -> dict[Key, float]:
        """Return when those of the subjects that were unbanned since a time were, wall clock."""
        with self._database.guard() as connection:
            return fleet.unbanned(connection, keys, since, now)

    def last_decision(self) -> int:
        """Return the number of the latest decision; 0: there is none."""
        with self._database.guard() as connection:
            return fleet.last(connection)

    def of_peers(self, now: float) -> dict[str, int]:
        """Return how many entries are active of each peer, by its name."""
        with self._database.guard() as connection:
            return fleet.counts(connection, now)

    def of_peer(self, peer: str, now: float) -> int:
        """Return how many entries are active of one peer."""
        with self._database.guard() as connection:
            return fleet.count(connection, peer, now)

    def good_in(self, first: str, beyond: str, now: float, most: int) -> list[str]:
        """Return good senders, see `throttled.store.fleet.good`."""
        with self._database.guard() as connection:
            return fleet.good(connection, first, beyond, now, most)

    # What is active

    def active(self, now: float, chunk: int = _CHUNK) -> Iterator[list[Entry]]:
        """Yield what should be active, the latest decided first, in chunks.

        The store can be written in between; what is decided again then may not come again.
        """
        return listing.active(self._database, now, chunk)

    def sample(self, now: float, count: int) -> list[Entry]:
        """Return at most `count` of what should be active, neighbours from a random one on."""
        with self._database.guard() as connection:
            return listing.sample(connection, now, count)

    def ended(self, until: float, chunk: int = _CHUNK) -> Iterator[list[Snapshot]]:
        """Yield what expired by then and was not replaced, in chunks, without lines.

        Kept for an hour; the store can be written in between.
        """
        return listing.ended(self._database, until, chunk)

    def shift(self, how: Shift, chunk: int = _CHUNK) -> Iterator[int]:
        """Move the expiry of active, allowed and exempt entries, in chunks: the clock was set.

        Yields how much of what is active moved.

        Args:
            how: by how much, and how far it has come; after an error it continues there.
                What was decided later than its `now` stays: by a clock that was right before.
            chunk: rows of one transaction; the store can be written in between.
        """
        return listing.shift(self._database, how, chunk)

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
        with self._database.guard() as connection:
            return listing.page(
                connection, what, now, order, count, after=after, skipped=self.skipped
            )

    def rows(self, now: float, chunk: int = _CHUNK) -> Iterator[list[Snapshot]]:
        """Yield all that is active, the earliest decided first, in chunks, without lines."""
        return listing.rows(self._database, now, chunk)

    def inside(self, network: str, now: float, chunk: int = _CHUNK) -> Iterator[list[Snapshot]]:
        """Yield what is active inside a network or is it, without lines; see `listing.inside`.

        The store can be written in between.
        """
        return listing.inside(self._database, network, now, chunk)

    def total(self, now: float, what: Filter = _ALL) -> int:
        """Return how many are active."""
        with self._database.guard() as connection:
            return listing.total(connection, what, now)

    def prefix_lengths(self) -> set[int]:
        """Return the prefix lengths of the networks that are active: 0.1 s for a million rows."""
        with self._database.guard() as connection:
            return listing.prefix_lengths(connection)

    def counts(self, now: float) -> dict[tuple[Scope, Action], int]:
        """Return how many are active by scope and action."""
        with self._database.guard() as connection:
            return listing.counts(connection, now)

    # The operator's doings

    def unban(
        self,
        subject: str,
        scope: Scope | None,
        now: float,
        exempt_until: float = 0.0,
    ) -> list[Entry]:
        """Unban: remove and delete offences; the history keeps it, with the release.

        Args:
            subject: exactly this one; an address in a network is another subject.
            scope: None for all.
            now: wall clock.
            exempt_until: `Past.exempt_until` from now on; not later than now for none.

        Returns:
            What was active, with `seconds` 0: what the kernel shall no longer hold.
        """
        with self._database.transaction() as connection:
            return [
                entry
                for one in (SCOPES if scope is None else (scope,))
                for entry in manual.unban(connection, (subject, one), now, exempt_until)
            ]

    def unban_many(self, exempt: Mapping[Key, float], now: float) -> None:
        """Unban many subjects in one transaction; see `unban`.

        Args:
            exempt: by subject and scope until when each is exempt; 0.0 for not.
            now: wall clock.
        """
        with self._database.transaction() as connection:
            for key, until in exempt.items():
                manual.unban(connection, key, now, until)

    def unban_scope(self, scope: Scope, chunk: int = _CHUNK) -> Iterator[list[Entry]]:
        """Remove the throttles and bans of a scope in chunks; yield them, `seconds` 0.

        Writes no history and resets nothing; `clear` does that at the end. The store can be
        written in between.
        """
        return manual.unban_scope(self._database, scope, chunk)

    def clear(self, now: float, scope: Scope | None = None) -> int:
        """Remove all throttles and bans and delete all offences; return how many were active.

        Writes no history. Good evidence, exemptions and the allowlist stay.
        """
        with self._database.transaction() as connection:
            removed = sum(
                listing.total(connection, Filter(scope, action), now)
                for action in ACTIONS
                if action != "exempt"
            )
            manual.clear(connection, scope, now)
            return removed

    def unbanned_since(self) -> dict[str, dict[Scope, float]]:
        """Return from when on subjects count again, by subject ("" for everybody) and scope.

        At most the latest 100,000, for 30 days.
        """
        with self._database.guard() as connection:
            return manual.unbanned_since(connection, _UNBANS)

    def unbans(self) -> dict[Key, tuple[float, float]]:
        """Return when subjects were unbanned, and until when they are exempt ("" for all)."""
        with self._database.guard() as connection:
            return manual.unbans(connection, _UNBANS)

    def allow(self, what: str, until: float, note: str, now: float) -> None:
        """Put a subject or host-name suffix on the allowlist; `until` 0.0 = for ever.

        Raises:
            RefusedError: the list is full.
        """
        with self._database.transaction() as connection:
            manual.allow(connection, Allowed(what, until, note, now))

    def resolve(
        self, name: str, addresses: Sequence[str], kept: tuple[float, str] | None, now: float
    ) -> tuple[list[str], list[str]]:
        """Put a host name on the allowlist by its addresses; see `throttled.store.names`.

        Args:
            name: the host name.
            addresses: what DNS returned.
            kept: until when (0.0 = no end), and the note; None: as they are, of a name that is
                there.
            now: wall clock.

        Returns:
            Addresses added, and removed.

        Raises:
            RefusedError: the list is full, or the name is not there.
        """
        with self._database.transaction() as connection:
            if kept is None:
                return names.refreshed(connection, name, addresses, now)
            return names.put(connection, name, addresses, kept, now)

    def disallow(self, what: str) -> bool:
        """Remove an entry, or a name's addresses, from the allowlist; return whether it existed."""
        with self._database.transaction() as connection:
            # Both: an entry and a name may be the same.
            return manual.disallow(connection, what) | names.remove(connection, what)

    def matching(self, begin: str, now: float, count: int) -> dict[str, str]:
        """Return clients whose address begins with a text; see `throttled.store.find`."""
        with self._database.guard() as connection:
            return find.clients(connection, begin, now, count)

    def allowed(self, now: float) -> list[Allowed]:
        """Return the allowlist, and the addresses of its names."""
        with self._database.guard() as connection:
            return [
                *manual.allowed(connection, now, self.skipped),
                *names.rows(connection, now, skipped=self.skipped),
            ]

    def known(self, name: str) -> bytes | None:
        """Return what `know` retained under a name; None for nothing."""
        with self._database.guard() as connection:
            row = connection.execute(_KNOWN, (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def know(self, name: str, value: bytes, now: float) -> None:
        """Retain a value under a name, in place of the one before."""
        with self._database.transaction() as connection:
            connection.execute("REPLACE INTO known VALUES (?, ?, ?)", (name, now, value))

    def add_host(self, name: str, now: float) -> None:
        """Record a name under which this host's lines are in its log."""
        with self._database.transaction() as connection:
            host.add(connection, name, now)

    def hosts(self) -> frozenset[str]:
        """Return the names that `add_host` recorded."""
        with self._database.guard() as connection:
            return host.names(connection, self.skipped)

    def write_change(self, change: Change, command: str = "") -> None:
        """Keep what an operator changed."""
        with self._database.transaction() as connection:
            audit.write(connection, change, command)

    def changes(
        self, since: float = 0.0, subject: str | None = None, count: int = 1000
    ) -> list[Change]:
        """Return what operators changed since then, about one subject or all, the latest first."""
        with self._database.guard() as connection:
            return audit.read(connection, since, subject, count)

    def prune(self, now: float) -> bool:
        """Delete some of what is old, write the log back; return whether to call again soon."""
        with self._database.transaction() as connection:
            more = prune(connection, now)
        self._database.checkpoint()
        return more
