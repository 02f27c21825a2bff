"""The configured limits, each with its table, for one scope. Pure.

A limit of connections has two tables: what the log says of a client, and what the kernel saw of it
(`handshakes`). Each sees most of what the other does; neither is added to the other, so that either
crosses the limit just where it is, and where one is blind the other counts.

Owns the tables. What a client did in one scope is counted, and punished, there.
"""

from typing import Generic, TypeVar

from msgspec import Struct, field

from throttled.decide.noting import NotingCounters, NotingDistinct, Peaks
from throttled.decide.tables import Counters, Distinct
from throttled.model import Action, Scope
from throttled.policy import Count, Limit, Policy

NEVER = 1 << 62

Table = TypeVar("Table", Counters, Distinct)


class Gauge(Struct, Generic[Table]):
    """One limit in one scope: its thresholds and its table."""

    limit: str
    count: Count
    scope: Scope
    within: float  # seconds
    soft: int
    hard: int
    table: Table
    kernel: bool = False  # counts what the kernel saw; else what the log says

    def verdict(self, value: int) -> tuple[Action, int]:
        """Return what a value above `soft` or `hard` asks for, and the threshold it crossed."""
        return ("ban", self.hard) if value > self.hard else ("throttle", self.soft)

    def read(self, client: str, at: float) -> "Meter":
        """Return what a client's meter shows."""
        return Meter(
            self.limit,
            self.scope,
            self.within,
            self.table.value(client, at),
            0 if self.soft == NEVER else self.soft,
            0 if self.hard == NEVER else self.hard,
            kernel=self.kernel,
        )


class Meter(Struct, frozen=True):
    """What a client's meter of one limit shows, for `explain`. 0 = no such threshold."""

    limit: str
    scope: Scope
    within: float  # seconds
    value: int
    soft: int
    hard: int
    kernel: bool = False  # see `Gauge`

    def share(self) -> float:
        """Return how much of its highest threshold is reached; above 1.0 that is crossed."""
        return self.value / (self.hard or self.soft)


class Gauges(Struct):
    """The gauges of one scope, by what they count."""

    connections: list[Gauge[Counters]] = field(default_factory=list)
    handshakes: list[Gauge[Counters]] = field(default_factory=list)
    errors: list[Gauge[Counters]] = field(default_factory=list)
    callouts: list[Gauge[Counters]] = field(default_factory=list)
    auth_failures: list[Gauge[Counters]] = field(default_factory=list)
    auth_users: list[Gauge[Distinct]] = field(default_factory=list)

    @classmethod
    def of(cls, policy: Policy, scope: Scope, noted: int = 0) -> "Gauges":
        """Make the gauges, empty, that a policy asks for in a scope.

        Args:
            policy: its limits.
            scope: it.
            noted: of how many clients each notes the highest value in the log; 0: of none.
        """
        made = cls()
        for name, limit in policy.limits.items():
            soft, hard = _thresholds(limit, scope)
            if not limit.enabled or min(soft, hard) == NEVER:
                continue
            within = float(limit.within)
            if limit.count == "auth_users":
                most = 1 + (soft if hard == NEVER else hard)
                names = Distinct(within, policy.max_clients, most)
                if noted:
                    names = NotingDistinct(within, policy.max_clients, most, Peaks(noted))
                made.auth_users.append(Gauge(name, limit.count, scope, within, soft, hard, names))
            else:
                table = Counters(within, policy.max_clients)
                if noted:
                    table = NotingCounters(within, policy.max_clients, Peaks(noted))
                group: list[Gauge[Counters]] = getattr(made, limit.count)
                group.append(Gauge(name, limit.count, scope, within, soft, hard, table))
            if limit.count == "connections":
                seen = Counters(within, policy.max_clients)
                made.handshakes.append(
                    Gauge(name, limit.count, scope, within, soft, hard, seen, kernel=True)
                )
        return made

    def all(self) -> "list[Gauge[Counters] | Gauge[Distinct]]":
        """Return every gauge."""
        return [
            *self.connections,
            *self.handshakes,
            *self.errors,
            *self.callouts,
            *self.auth_failures,
            *self.auth_users,
        ]

    def insist(self, client: str, at: float) -> None:
        """Note what a client that just proved good has reached, where there is no more room."""
        for gauge in self.all():
            table = gauge.table
            if isinstance(table, NotingCounters | NotingDistinct) and table.peaks.full:
                table.peaks.insist(client, table.value(client, at))

    def adopt(self, before: "Gauges") -> None:
        """Take over the counts of limits that stay as they were.

        Other thresholds make no difference to counters; names are counted up to a threshold.
        """
        for group in ("connections", "handshakes", "errors", "callouts", "auth_failures"):
            known = {(gauge.limit, gauge.within): gauge for gauge in getattr(before, group)}
            for gauge in getattr(self, group):
                if (gauge.limit, gauge.within) in known:
                    gauge.table = known[gauge.limit, gauge.within].table
        names = {(g.limit, g.within, g.soft, g.hard): g for g in before.auth_users}
        for gauge in self.auth_users:
            if (key := (gauge.limit, gauge.within, gauge.soft, gauge.hard)) in names:
                gauge.table = names[key].table


def _thresholds(limit: Limit, scope: Scope) -> tuple[int, int]:
    other = limit.mx if scope == "mx" else limit.submission
    soft = other.soft if other and other.soft else limit.soft
    hard = other.hard if other and other.hard else limit.hard
    return soft or NEVER, hard or NEVER
