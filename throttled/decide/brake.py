"""The brake: when bans are about to hit many good clients at once, something else is wrong. Pure.

A wrong limit or a broken service of our own bans good senders by the dozen; then nobody is banned
for a minute, and those good clients are spared for an hour, as the fault goes on hitting them.
So that offenders with a delivery each cannot hold the brake on, a client counts once an hour.

Owns who was counted: at most `_CLIENTS`, above that the longest ago are forgotten. A wall clock
that goes back begins anew.
"""

from collections.abc import Iterable

from throttled.decide import meter
from throttled.decide.tables import Generations

#: The brake looks at the bans of so many seconds, not only at one batch: batches are small when
#: the daemon is quick.
_WINDOW = 60.0
_ONCE = 3600.0
_CLIENTS = 20_000


class Brake:
    """Counts good clients that are about to be banned."""

    def __init__(self) -> None:
        self._anew(0.0)

    def _anew(self, now: float) -> None:
        self._latest = now
        self._meter = 0
        self._counted: Generations[str, float] = Generations(_ONCE, _CLIENTS)
        self._spared: Generations[str, float] = Generations(_ONCE, _CLIENTS)

    def press(self, good: Iterable[str], now: float, limit: int) -> int:
        """Count good clients about to be banned; return how many those of a minute are, or 0.

        Args:
            good: distinct addresses.
            now: wall clock.
            limit: 0 is returned unless there are more than so many.
        """
        if now < self._latest - _WINDOW:
            self._anew(now)
        self._latest = now
        good = tuple(good)
        fresh = [client for client in good if not _within(self._counted.get(client), now)]
        for client in fresh:
            self._counted.put(client, now, now)
        self._meter, count = meter.add(self._meter, int(now * meter.EIGHTHS / _WINDOW), len(fresh))
        if not good or count <= limit:
            return 0
        for client in good:
            if not _within(self._spared.get(client), now):
                self._spared.put(client, now, now)
        return count

    def spares(self, client: str, now: float) -> bool:
        """Tell whether the brake kept a good client from being banned within an hour."""
        return _within(self._spared.get(client), now)


def _within(time: float | None, now: float) -> bool:
    return time is not None and now - time < _ONCE
