"""The configured limits, each with its tables, for one scope. Pure.

A limit of connections has two gauges: what the log says of a client, and what the kernel saw of it
(`handshakes`). Each sees most of what the other does; neither is added to the other, so that either
crosses the limit just where it is, and where one is blind the other counts.

A gauge counts each client, and beside it the client's network (/24, /64), in a table of its own:
addresses that take turns add up there, each with no more than what gets itself throttled. Good
events within the window of a limit are counted in tables that limits of the same kind and window
share, of clients and networks alike.

Owns the tables. What a client did in one scope is counted, and punished, there.
"""

from typing import Generic, TypeVar, cast

from msgspec import Struct, field
from msgspec.structs import replace

from throttled.address import is_network, version
from throttled.decide.allowance import KINDS, Kind, kind_of, threshold
from throttled.decide.highest import Peaks
from throttled.decide.overrides import Overrides
from throttled.decide.sums import Sums
from throttled.decide.tables import Counters, Distinct
from throttled.limits import Count, Limit, ThrottleRate
from throttled.model import Scope
from throttled.settings import Good, Policy

NEVER = 1 << 62
#: The groups of `Gauges` whose tables are counters.
_COUNTED = (
    "connections",
    "handshakes",
    "errors",
    "callouts",
    "auth_failures",
    "messages",
    "recipients",
)
#: Networks are fewer than clients: tracked clients for each tracked network.
_PER_NETWORK = 4

Table = TypeVar("Table", Counters, Distinct)
Crowd = TypeVar("Crowd", Sums, Distinct)


class Gauge(Struct, Generic[Table, Crowd]):
    """One limit in one scope: its thresholds and its tables."""

    limit: str
    count: Count
    scope: Scope
    within: float  # seconds
    soft: int
    hard: int
    multiple: int  # thresholds of a network are so many times those of an address
    paces: tuple[float, float]  # connections a second that a throttle allows an address, a network
    good: Sums  # good events of its kind, of clients and networks
    settings: Good
    others: Overrides
    table: Table
    networks: Crowd
    peaks: Peaks | None = None  # the highest values of clients, where they are noted
    slow: bool = False  # the throttle of an address is slower than the configured one
    kernel: bool = False  # counts what the kernel saw; else what the log says
    usual: int = 0  # the lower of `soft` and `hard`
    #: Soft and hard but for `others`: of addresses (0), and of networks by version.
    plains: dict[int, tuple[int, int]] = {}
    least: int = 0  # what is not above this crosses nothing, whoever it is
    network_least: int = 0

    def __post_init__(self) -> None:
        self.usual = min(self.soft, self.hard)
        self.least = min(self.usual, *self.others.thresholds, NEVER)
        self.network_least = self.multiple * self.least
        self.plains = {kind: self._of(kind, self.soft, self.hard) for kind in (0, 4, 6)}

    def out_of_reach(self) -> None:
        """Count only: let no value cross."""
        self.soft = self.hard = NEVER
        self.others = Overrides({})
        self.__post_init__()

    def thresholds(self, subject: str, at: float) -> tuple[int, int, int]:
        """Return soft and hard as they are for a subject now, and its good events in the window.

        A /24 has no hard one: its addresses are strangers to each other.
        """
        good = self.good.value(subject, at)
        soft, hard = self.plain(subject)
        if good:  # of few
            soft = threshold(soft, good, self.settings, ban=False) if soft < NEVER else NEVER
            hard = threshold(hard, good, self.settings, ban=True) if hard < NEVER else NEVER
        return soft, hard, good

    def plain(self, subject: str) -> tuple[int, int]:
        """Return soft and hard of an address or a network, whatever good it did."""
        kind = version(subject) if is_network(subject) else 0
        own = self.others.of(subject) if self.others.entries else None
        if own is None:
            return self.plains[kind]
        if not own.enabled:
            return NEVER, NEVER
        return self._of(kind, own.soft or self.soft, own.hard or self.hard)

    def _of(self, kind: int, soft: int, hard: int) -> tuple[int, int]:
        """Return the thresholds of an address (0), or of a network of a version."""
        if not kind:
            return soft, hard
        soft, hard = (min(NEVER, self.multiple * each) for each in (soft, hard))
        return (soft, hard) if kind == 6 else (min(soft, hard), NEVER)

    def more_names(self, subject: str, at: float) -> int:
        """Return how many names beyond the usual the good that a subject did may excuse."""
        raised, plain = self.thresholds(subject, at), self.plain(subject)
        which = int(plain[1] < NEVER)
        return raised[which] - plain[which]

    def read(self, subject: str, at: float) -> "Meter":
        """Return what the meter of a client or network shows."""
        table = self.networks if is_network(subject) else self.table
        soft, hard, good = self.thresholds(subject, at)
        return Meter(
            self.limit,
            self.scope,
            self.within,
            table.value(subject, at),
            0 if soft == NEVER else soft,
            0 if hard == NEVER else hard,
            kernel=self.kernel,
            good=good,
        )


class Meter(Struct, frozen=True):
    """What a client's meter of one limit shows, for `explain`. 0 = no such threshold."""

    limit: str
    scope: Scope
    within: float  # seconds
    value: int
    soft: int  # with what good events of the window add to it
    hard: int
    kernel: bool = False  # see `Gauge`
    good: int = 0  # good events of the limit's kind within the window
    proxied: bool = False  # what it did behind a proxy, which is counted apart

    def share(self) -> float:
        """Return how much of its highest threshold is reached; above 1.0 that is crossed."""
        return self.value / (self.hard or self.soft or NEVER)


CountGauge = Gauge[Counters, Sums]
NameGauge = Gauge[Distinct, Distinct]


class Gauges(Struct):
    """The gauges of one scope, by what they count, and the good events beside them."""

    connections: list[CountGauge] = field(default_factory=list)
    handshakes: list[CountGauge] = field(default_factory=list)
    errors: list[CountGauge] = field(default_factory=list)
    callouts: list[CountGauge] = field(default_factory=list)
    auth_failures: list[CountGauge] = field(default_factory=list)
    auth_users: list[NameGauge] = field(default_factory=list)
    messages: list[CountGauge] = field(default_factory=list)
    recipients: list[CountGauge] = field(default_factory=list)
    #: Tables of good events by kind and window, in seconds.
    good: dict[Kind, dict[float, Sums]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )

    @classmethod
    def of(cls, policy: Policy, scope: Scope, peaks: int = 0) -> "Gauges":
        """Make the gauges, empty, that a policy asks for in a scope.

        Args:
            policy: its limits.
            scope: it.
            peaks: of how many clients each notes the highest value in the log; 0: of none.
        """
        made = cls()
        for name, limit in policy.limits.items():
            soft, hard = _thresholds(limit, scope)
            if limit.of == "client" and limit.enabled and min(soft, hard) < NEVER:
                made._add(policy, scope, name, peaks)
        return made

    def _add(self, policy: Policy, scope: Scope, name: str, peaks: int) -> None:
        limit = policy.limits[name]
        soft, hard = _thresholds(limit, scope)
        within, clients = float(limit.within), policy.max_clients
        networks, multiple = clients // _PER_NETWORK, policy.network.multiple
        others = Overrides(limit.for_)
        least = multiple * min(soft, hard, *others.thresholds)
        count = cast("Count", limit.count)  # those of clients, see config/checks.py
        known = self.good[kind_of(count)].setdefault(within, Sums(within, clients, NEVER))
        paces = pace(policy, limit.throttle), pace(policy, policy.network.throttle)
        good = policy.good if limit.factor is None else replace(policy.good, factor=limit.factor)
        slow = paces[0] < pace(policy, None)
        about = (name, count, scope, within, soft, hard, multiple, paces, known, good, others)
        noted = Peaks(peaks) if peaks else None
        if count == "auth_users":
            highest = max([soft if hard == NEVER else hard, *others.thresholds])
            most = 1 + policy.good.memory * highest
            names = Distinct(within, clients, most)
            together = Distinct(within, networks, 1 + multiple * highest)
            gauge = Gauge(*about, names, together, noted, slow)
            names.more = together.more = gauge.more_names
            self.auth_users.append(gauge)
            return
        group: list[CountGauge] = getattr(self, count)
        table = Counters(within, clients)
        group.append(Gauge(*about, table, Sums(within, networks, least), noted, slow))
        if count == "connections":
            sums = Sums(within, networks, least)
            self.handshakes.append(Gauge(*about, Counters(within, clients), sums, kernel=True))

    def all(self) -> "list[CountGauge | NameGauge]":
        """Return every gauge."""
        return [
            *self.connections,
            *self.handshakes,
            *self.errors,
            *self.callouts,
            *self.auth_failures,
            *self.auth_users,
            *self.messages,
            *self.recipients,
        ]

    def add_good_peaks(self, client: str, at: float) -> None:
        """Note what a client that just proved good has reached, where there is no more room."""
        for gauge in self.all():
            if gauge.peaks is not None and gauge.peaks.full:
                gauge.peaks.add_good(client, gauge.table.value(client, at))

    def adopt(self, before: "Gauges") -> None:
        """Take over the counts of limits whose window stays; thresholds make no difference.

        Of names as many are known as the limit before asked for.
        """
        for kind, tables in self.good.items():
            tables.update((w, t) for w, t in before.good[kind].items() if w in tables)
        for group in _COUNTED:
            counted = {(gauge.limit, gauge.within): gauge for gauge in getattr(before, group)}
            for gauge in getattr(self, group):
                gauge.good = self.good[kind_of(gauge.count)][gauge.within]
                if (gauge.limit, gauge.within) in counted:
                    known = counted[gauge.limit, gauge.within]
                    gauge.table, gauge.networks = known.table, known.networks
                    gauge.peaks = known.peaks
                    gauge.networks.watch(gauge.network_least)
        names = {(gauge.limit, gauge.within): gauge for gauge in before.auth_users}
        for gauge in self.auth_users:
            gauge.good = self.good["logins"][gauge.within]
            if (gauge.limit, gauge.within) in names:
                known = names[gauge.limit, gauge.within]
                for table, own in ((known.table, gauge.table), (known.networks, gauge.networks)):
                    table.most, table.more = own.most, own.more
                gauge.table, gauge.networks = known.table, known.networks
                gauge.peaks = known.peaks


def pace(policy: Policy, rate: ThrottleRate | None) -> float:
    """Return the connections a second that a throttle allows; None: by the configured rate."""
    given = policy.throttle if rate is None else rate
    return given.rate / float(given.per)


def _thresholds(limit: Limit, scope: Scope) -> tuple[int, int]:
    other = limit.mx if scope == "mx" else limit.submission
    soft = other.soft if other and other.soft else limit.soft
    hard = other.hard if other and other.hard else limit.hard
    return soft or NEVER, hard or NEVER
