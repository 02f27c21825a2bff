"""For whom each open connection of a scope waits, and how long it has waited.

One that no process has accepted waits for a process. A session waits for its client or, while
Postfix owes a reply, for Postfix. Each 250 bytes that come count as a second less, as they come: so
an upload at modem speed does not wait, but who sends a lot at once gains only some seconds. Owns
these times, which are as exact as the looks are frequent.
"""

from collections.abc import Collection, Sequence

from throttled.decide.overload import Place
from throttled.enforce.sockets import Socket

#: Between two looks no more seconds count, so that a daemon that was stopped for a while ends
#: nobody for that.
_LOOK = 2.5
#: Who waits longer waits for no process that is being started: that service has all it may have, or
#: its processes do not start. The others have room nevertheless.
_STUCK = 5.0
#: A client that waits longer for a process is late.
_LATE = 1.0
#: Bytes received that count as a second less, and how many seconds may be saved.
_BYTES, _SAVED = 250, 10.0


class Waits:
    """The times of one scope's connections."""

    def __init__(self) -> None:
        """Begin with none."""
        self._looked = 0.0  # boot clock
        self._tls: Collection[int] = ()
        self._queued: dict[bytes, float] = {}  # seconds of those that no process has accepted
        #: Seconds in which each waited for Postfix, and in which Postfix waited for it, since a
        #: process accepted it, or greeted it, by the kernel's cookie; and the bytes that came.
        self._spent: dict[tuple[bytes, bool], tuple[float, float, int]] = {}

    def look(self, connections: Sequence[Socket], boot: float, tls: Collection[int] = ()) -> None:
        """Count the time since the latest look.

        Args:
            connections: all that are open.
            boot: the boot clock, now.
            tls: ports at which there is no greeting before the client has begun TLS.
        """
        self._tls = tls
        passed, self._looked = min(boot - self._looked, _LOOK), boot
        queued: dict[bytes, float] = {}
        spent: dict[tuple[bytes, bool], tuple[float, float, int]] = {}
        for s in connections:
            if not s.inode:
                queued[s.identity] = self._queued.get(s.identity, -passed) + passed
                continue
            key, waits = (s.identity, s.spoken), self._waits(s)
            owed, waited, received = self._spent.get(key, (0.0, 0.0, 0))
            more = passed if key in self._spent else 0.0
            less = (s.received - received) / _BYTES
            owed, waited = owed + more * (not waits) - less, waited + more * waits - less
            spent[key] = max(owed, -_SAVED), max(waited, -_SAVED), s.received
        self._queued, self._spent = queued, spent

    def queued(self) -> set[bytes]:
        """Return the cookies of those that wait for a process which is being started."""
        return {cookie for cookie, seconds in self._queued.items() if seconds <= _STUCK}

    def late(self, connection: Socket) -> bool:
        """Return whether one has waited long for a process."""
        return self._queued.get(connection.identity, 0.0) >= _LATE

    def place(self, connection: Socket) -> Place:
        """Return what decides about one of those looked at."""
        s, waits = connection, self._waits(connection)
        age = self._spent[s.identity, s.spoken][waits] if s.inode else self._queued[s.identity]
        return Place(s.identity, age, s.received, waits, not s.inode)

    def _waits(self, connection: Socket) -> bool:
        """Return whether Postfix waits for the client, and has greeted it or will not yet."""
        return connection.waits and (connection.spoken or connection.port in self._tls)
