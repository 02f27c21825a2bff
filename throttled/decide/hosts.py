"""Which hosts' lines are in each log, and whether they count. Pure: no clock, no I/O.

A log may hold the lines of many hosts; only this host's lead to decisions here. `localhost`, which
loggers write until they have learnt the name, is this host in a log that names no other.

Owns the names seen: at most `_NAMES` a log, further ones are distinguished no more.
"""

from msgspec import Struct, field

from throttled.facts import Facts

_NAMES = 100
_LOCALHOST = "localhost"


class _Log(Struct):
    local: bool = False  # whatever the name: all lines are this host's
    named: bool = False  # names a host that is not `localhost`
    ignored: dict[str, int] = field(default_factory=dict)  # by host: events that did not count


class Hosts:
    """The names of hosts in each log.

    Args:
        facts: with the names of this host.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._logs: dict[int, _Log] = {}

    def local(self, log: int) -> None:
        """Learn that all lines of a log are this host's: systemd's journal."""
        self._logs.setdefault(log, _Log()).local = True

    def see(self, log: int, host: str) -> bool:
        """Record a host in a log; return whether this changes who counts there."""
        known = self._logs.setdefault(log, _Log())
        if host and len(known.ignored) < _NAMES:
            known.ignored.setdefault(host, 0)
        if known.named or not host or local(host):
            return False
        known.named = True
        return True

    def counts(self, log: int, host: str) -> bool:
        """Return whether the lines of a host in a log count."""
        known = self._logs.get(log) or _Log()
        if known.local or not host or not self.facts.hostnames:
            return True
        return not known.named if local(host) else self.facts.ours(host)

    def ignore(self, log: int, host: str) -> None:
        """Count an event that did not count, unless it was for another reason."""
        known = self._logs.setdefault(log, _Log())
        if host in known.ignored and not self.counts(log, host):
            known.ignored[host] += 1

    def total(self) -> int:
        """Return how many events did not count as they were other hosts'."""
        return sum(sum(log.ignored.values()) for log in self._logs.values())

    def others(self) -> dict[int, dict[str, int]]:
        """Return the logs of which no host counts: the events of each, most first."""
        found = {}
        for number, log in self._logs.items():
            if sum(log.ignored.values()) and not any(self.counts(number, h) for h in log.ignored):
                events = sorted(log.ignored.items(), key=lambda item: -item[1])
                found[number] = {host: count for host, count in events if count}
        return found


def this_one(host: str, facts: Facts) -> bool:
    """Return whether the host of a line is known to be this one, or no host at all."""
    return not host or local(host) or not facts.hostnames or facts.ours(host)


def local(host: str) -> bool:
    """Return whether a name is `localhost`, which may be any host."""
    return host.lower().partition(".")[0] == _LOCALHOST
