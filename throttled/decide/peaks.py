"""What every client reached at the most within the window of each limit. Pure: no clock, no I/O.

An engine for each scope counts as usual, with thresholds out of reach, and its gauges note peaks.
Good clients delivered mail or logged in, in that scope; the others are strangers.

Owns the peaks: at most `max_clients` strangers for each limit and scope, and as many good clients.
Later ones are left out, and `full` is set. Of user names 256 are distinguished.
"""

from msgspec import Struct

from throttled.decide.engine import Engine
from throttled.decide.highest import Peaks
from throttled.decide.limits import CountGauge, Meter, NameGauge
from throttled.decide.sender_peaks import SenderPeaks
from throttled.decide.tables import Distinct
from throttled.facts import Facts
from throttled.model import SCOPES, Event, Scope
from throttled.settings import Policy

_NAMES = 256
#: Clients whose peaks anvil logged; at the cap the lower half is evicted.
_ANVIL = 10_000
_RATES = 10
#: Syslog names known; a host has a handful, a forger any number.
_INSTANCES = 1000

Good = dict[str, tuple[int, int]]  # (deliveries, logins) by client


class Rate(Struct, frozen=True):
    """A connection rate that anvil(8) logged, per anvil_rate_time_unit (60 s unless configured)."""

    client: str
    service: str
    rate: int


class Watched(Struct):
    """One limit in one scope."""

    gauge: CountGauge | NameGauge
    now: Meter  # its thresholds
    peaks: Peaks


class Reached(Struct):
    """What clients reached in one scope."""

    good: Good
    watched: list[Watched]


class Scoped:
    """What happens in one scope. An engine of its own tells in which one a client was good."""

    def __init__(self, policy: Policy, facts: Facts, scope: Scope) -> None:
        self.engine = Engine(policy, facts)
        self.good: Good = {}
        self.watched = [
            self._watch(gauge, policy.max_clients)
            for gauge in self.engine.gauges()
            if gauge.scope == scope and not gauge.kernel
        ]
        self.cap = policy.max_clients
        self.full = False

    def _watch(self, gauge: CountGauge | NameGauge, cap: int) -> Watched:
        gauge.peaks = Peaks(cap, self.good)
        watched = Watched(gauge, gauge.read("", 0.0), gauge.peaks)
        gauge.out_of_reach()
        if isinstance(gauge.table, Distinct):
            gauge.table = Distinct(gauge.within, cap, _NAMES)
        return watched

    def settle(self) -> None:
        """Record good evidence."""
        for one in self.engine.drain().evidence:
            known = self.good.get(one.subject)
            if known is None and len(self.good) >= self.cap:
                self.full = True
                continue
            deliveries, logins = known or (0, 0)
            self.good[one.subject] = deliveries + one.deliveries, logins + one.logins


class Watch:
    """Takes events and knows, at the end, what each client reached."""

    def __init__(self, policy: Policy, facts: Facts) -> None:
        self._facts = facts
        self.scopes = {scope: Scoped(policy, facts, scope) for scope in SCOPES}
        self.senders = SenderPeaks(policy, facts)
        self._engines: dict[str, Engine] = {}  # by instance
        self._anvil: dict[tuple[str, str], int] = {}
        self._log = 0

    def begin(self, *, every: bool) -> None:
        """Begin with the lines of another log.

        Args:
            every: whether the lines of every host in it count.
        """
        self._log += 1
        for scoped in self.scopes.values() if every else ():
            scoped.engine.hosts.local(self._log)

    def step(self, event: Event) -> None:
        """Count one event, at its own time."""
        if event.kind == "peak":
            self._peak(event)
            return
        engine = self._engines.get(event.instance)
        if engine is None:
            engine = self._engine(event.instance)
        engine.step(event, event.time, self._log)
        about = event.message is not None or (self.senders.connections and event.kind == "connect")
        if about and engine.ours(event, self._log):
            self.senders.step(event, event.time)

    def settle(self) -> None:
        """Record good evidence; to be called now and then."""
        for scoped in self.scopes.values():
            scoped.settle()

    def reached(self) -> list[Reached]:
        """Return what clients reached, by scope."""
        self.settle()
        return [Reached(scoped.good, scoped.watched) for scoped in self.scopes.values()]

    @property
    def full(self) -> bool:
        """Whether there were more clients than `max_clients`."""
        return any(
            scoped.full or any(watched.peaks.full for watched in scoped.watched)
            for scoped in self.scopes.values()
        )

    def anvil(self) -> list[Rate]:
        """Return the highest connection rates that anvil logged."""
        highest = sorted(self._anvil.items(), key=lambda item: -item[1])[:_RATES]
        return [Rate(client, service, rate) for (client, service), rate in highest]

    def _engine(self, instance: str) -> Engine:
        if len(self._engines) >= _INSTANCES:
            self._engines.clear()
        engine = self.scopes[self._facts.scope_of(instance)].engine
        self._engines[instance] = engine
        return engine

    def _peak(self, event: Event) -> None:
        if event.where != "connection rate":
            return
        key = (event.client, event.service)
        self._anvil[key] = max(event.count, self._anvil.get(key, 0))
        if len(self._anvil) > _ANVIL:
            highest = sorted(self._anvil.items(), key=lambda item: -item[1])
            self._anvil = dict(highest[: _ANVIL // 2])
