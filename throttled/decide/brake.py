"""The brake: bans of many good clients at once are a sign of an error, and become throttles. Pure.

A wrong limit or a broken service on this host would ban many good senders. The brake starts in the
batch in which more than `limit` good clients would be banned within a minute. Good clients have
mail of two days or two logins as evidence in that limit (`allowance.proven`).
No client is banned in that batch, nor in later ones with a good client in them until a minute has
passed in which fewer were counted; the clients that started it are not banned by that limit for an
hour, as the error may persist. So that offenders cannot keep it on, a client counts once an hour,
and all IPv6 clients of a /64, which one host has, count as one.

Owns who was counted: at most `_CLIENTS`, above that the longest ago are evicted. A wall clock
that goes back starts again.
"""

from collections.abc import Iterable

from throttled.address import network_of, version
from throttled.decide import meter
from throttled.decide.tables import Generations

#: Seconds whose bans the brake looks at, not only at one batch: batches are small when
#: the daemon is quick.
_WINDOW = 60.0
_ONCE = 3600.0
_CLIENTS = 20_000

#: An address and the name of the limit that is about to ban it.
Banned = tuple[str, str]


class Brake:
    """Counts good clients that are about to be banned."""

    def __init__(self) -> None:
        self._anew(0.0)

    def _anew(self, now: float) -> None:
        self._latest = now
        self._meter = 0
        self._counted: Generations[str, float] = Generations(_ONCE, _CLIENTS)
        self._spared: Generations[Banned, float] = Generations(_ONCE, _CLIENTS)

    def press(self, good: Iterable[Banned], now: float, limit: int) -> int:
        """Count good clients about to be banned; return how many those of a minute are, or 0.

        Args:
            good: who, and by which limit.
            now: wall clock.
            limit: 0 is returned unless there are more.
        """
        if now < self._latest - _WINDOW:
            self._anew(now)
        self._latest = now
        good = tuple(good)
        senders = {_sender(client) for client, _limit in good}
        fresh = [sender for sender in senders if not _within(self._counted.get(sender), now)]
        for sender in fresh:
            self._counted.put(sender, now, now)
        self._meter, count = meter.add(self._meter, int(now * meter.EIGHTHS / _WINDOW), len(fresh))
        if not good or count <= limit:
            return 0
        for banned in good:
            if not _within(self._spared.get(banned), now):
                self._spared.put(banned, now, now)
        return count

    def spares(self, banned: Banned, now: float) -> bool:
        """Return whether the brake kept a limit from banning a good client within an hour."""
        return _within(self._spared.get(banned), now)


def _sender(client: str) -> str:
    """Return what counts once: an IPv4 address, or an IPv6 client's network."""
    return (network_of(client) or client) if version(client) == 6 else client


def _within(time: float | None, now: float) -> bool:
    return time is not None and now - time < _ONCE
