"""Whom fail2ban would ban on logs of Postfix, by its own filters.

A client is banned at `maxretry` failures within `findtime`; its lines during the ban do not count,
as there would be none. Longer bans for those who come again are not simulated.

Owns the failures of each client: at most `_CLIENTS`; of later ones nothing is counted.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo

from msgspec import Struct, field

from throttled import address
from throttled.analysis.fail2ban.filters import Filter
from throttled.analysis.fail2ban.jails import PERMANENT, Jail
from throttled.decide.hosts import this_one
from throttled.facts import Facts
from throttled.parse.clock import Clock
from throttled.parse.header import Origin, any_form
from throttled.sources.history import in_order, reference, with_hosts

_CLIENTS = 1_000_000


class Banned(Struct):
    """A client that fail2ban would ban."""

    bans: int = 0
    jails: list[str] = field(default_factory=list)


class _Counted(Struct):
    jail: Jail
    filter: Filter
    ignored: list[str]  # addresses and networks
    failures: dict[str, deque[float]] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)


class Simulation:
    """One run over some logs; `banned` is complete after it."""

    def __init__(self, jails: Iterable[Jail], facts: Facts, zone: tzinfo) -> None:
        """Prepare.

        Args:
            jails: with their filters; of Postfix.
            facts: this host's own addresses, which fail2ban never bans, and its names.
            zone: of lines that name none.

        Raises:
            ValueError: a filter cannot be used.
        """
        self.banned: dict[str, Banned] = {}
        self._facts, self._zone = facts, zone
        own = sorted(facts.own)
        self._counted = [
            _Counted(jail, Filter(jail), [*own, *filter(address.is_subject, jail.ignore)])
            for jail in jails
        ]

    def run(self, paths: Sequence[str], progress: Callable[[str, int], None] | None = None) -> None:
        """Count the lines of logs.

        Args:
            paths: see `throttled.analysis.replay.Replay.run`.
            progress: called with how much of which file has been read.

        Raises:
            SourceError: a log cannot be read.
        """
        for path in in_order(paths, self._zone):
            clock = Clock(self._zone, reference(path))
            lines_of, others = with_hosts(path, self._facts, self._zone)
            facts = Facts() if others else self._facts  # as in a replay: else none would count
            for lines, consumed in lines_of:
                for line in lines:
                    head = any_form(line, clock, None)
                    if head is not None and this_one(head[0].host, facts):
                        self._line(head[0], head[1], head[2])
                if progress is not None:
                    progress(path, consumed)

    def _line(self, origin: Origin, time: float, body: str) -> None:
        tag = f"{origin.instance}/{origin.process}" if origin.instance else origin.process
        text = f" {origin.host} {tag}[{origin.pid}]: {body}"
        for counted in self._counted:
            client = counted.filter.client(text)
            if client and time >= counted.until.get(client, 0.0):
                self._failure(counted, client, time)

    def _failure(self, counted: _Counted, client: str, time: float) -> None:
        times = counted.failures.get(client)
        if times is None:
            if len(counted.failures) >= _CLIENTS or self._ignored(counted, client):
                return
            times = counted.failures[client] = deque(maxlen=max(1, counted.jail.maxretry))
        times.append(time)
        if len(times) < (times.maxlen or 1) or time - times[0] > counted.jail.findtime:
            return
        times.clear()
        length = counted.jail.bantime
        counted.until[client] = float("inf") if length == PERMANENT else time + length
        banned = self.banned.setdefault(client, Banned())
        banned.bans += 1
        if counted.jail.name not in banned.jails:
            banned.jails.append(counted.jail.name)

    @staticmethod
    def _ignored(counted: _Counted, client: str) -> bool:
        return any(address.inside(client, each) for each in counted.ignored)
