"""Clients that are banned in the kernel, or their network, but begin new sessions. Pure.

Their packets arrive another way than through the kernel's hook: a proxy, a container, a port that
is not filtered. Sessions from before the ban or within seconds of it, and from moments in which
another program removed the rules, are no escapes; see `Escapes.found`.

Owns the sessions of at most `_MOST` clients: one is enough for the finding.
"""

from msgspec import Struct

from throttled.address import is_network
from throttled.model import Scope

#: A log line's own second may be three seconds early (see `throttled.core.pipeline`), and a
#: client that waited for a process when it was banned may still get one.
LATE = 5.0
#: Sessions, and seconds over which they come, that are no remains of what was before.
_SESSIONS, _OVER = 3, 5.0
#: Silent seconds after which it is over.
_QUIET = 300.0
_MOST = 256


class Escape(Struct):
    """A client that got through."""

    client: str
    scope: Scope
    banned: str  # the client, or its network
    instance: str  # the syslog tag of the service it reached last
    first: float  # `at` of its sessions
    last: float
    sessions: int = 0


class Escapes:
    """Who got through, by client and scope."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Scope], Escape] = {}

    def add(self, client: str, scope: Scope, banned: str, instance: str, at: float) -> None:
        """Note a session that began well after the client, or its network, was banned.

        Args:
            client: its address.
            scope: in which it is banned.
            banned: the client, or its network.
            instance: the syslog tag of the service that logged it.
            at: when, in seconds.
        """
        known = self._known.get((client, scope))
        if known is None or at - known.last > _QUIET:
            if known is None and len(self._known) >= _MOST:
                return
            known = self._known[client, scope] = Escape(client, scope, banned, instance, at, at)
        known.sessions += 1
        known.last = max(known.last, at)
        known.banned, known.instance = banned, instance

    def reset(self, subject: str, scope: Scope) -> None:
        """Evict a client, or the clients of a network: it is banned no more."""
        self._known.pop((subject, scope), None)
        if is_network(subject):
            of = subject, scope
            self._known = {k: e for k, e in self._known.items() if of != (e.banned, e.scope)}

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()

    def found(self, at: float) -> list[Escape]:
        """Return who got through again and again, and still does; most sessions first.

        Args:
            at: now; clients without sessions for minutes are evicted.
        """
        self._known = {k: e for k, e in self._known.items() if at - e.last <= _QUIET}
        found = (
            e for e in self._known.values() if e.sessions >= _SESSIONS and e.last - e.first >= _OVER
        )
        return sorted(found, key=lambda escape: -escape.sessions)
