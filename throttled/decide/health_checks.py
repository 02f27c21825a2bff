"""Clients that look like health checks, so that an operator may allowlist them. Pure.

A health check connects and wants nothing, again and again. Owns the counts of such sessions, of
clients that have had no others.
"""

from throttled.decide.tables import Counters, Generations

#: Sessions that wanted nothing, and seconds in which no other came, after which a client looks like
#: a health check; how many such clients are remembered.
_HEALTH_CHECK, _IDLE_TIME, _HEALTH_CHECKS = 30, 3600.0, 50
#: Eighths of that time in which it came: a health check is steady, as many in a minute are a flood.
_STEADY = 4
#: A site has a handful of probes and load balancers; more clients than these are a flood.
_PROBES = 8


class HealthChecks:
    """Counts sessions that wanted nothing."""

    def __init__(self, cap: int) -> None:
        """Begin with nothing counted.

        Args:
            cap: clients tracked.
        """
        self._idle = Counters(_IDLE_TIME, cap)
        self._latest: Generations[str, str] = Generations(_IDLE_TIME, _HEALTH_CHECKS)

    def idle(self, client: str, at: float) -> None:
        """Count a session that wanted nothing."""
        if self._idle.add(client, at, 1) >= _HEALTH_CHECK:
            self._latest.put(client, client, at)

    def busy(self, client: str) -> None:
        """Note a session that wanted something."""
        self._idle.pop(client)

    def sessions(self, client: str, at: float) -> int:
        """Return how many sessions a client had within an hour, if it looks like a health check."""
        count = self._idle.value(client, at)
        steady = count >= _HEALTH_CHECK and self._idle.eighths(client, at) >= _STEADY
        return count if steady else 0

    def clients(self, at: float) -> list[str]:
        """Return clients that look like health checks; none where they are too many to be any.

        A steady flood from many that only connect looks the same: it is not to be allowlisted.
        """
        clients = [client for client in self._latest.values() if self.sessions(client, at)]
        return clients if len(clients) <= _PROBES else []

    def hint(self, client: str, at: float) -> str:
        """Return what to suggest about a client that looks like one; "" if it does not."""
        count = self.sessions(client, at)
        return (
            f"{client} looks like a health check: {count} sessions that did nothing within an "
            f"hour; allowlist it, if it is yours? throttled allow {client}"
            if count
            else ""
        )
