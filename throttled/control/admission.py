"""How much of the control socket each user may have. Pure but for the counts it owns.

A user other than root has at most `PER_USER` connections at a time, all of them together leave
`FOR_ROOT` to root. Each user, root too, may ask `BURST` times at once and then `RATE` times a
second; who asks more often waits, and nobody else with him. Nothing is refused for its rate: an
import of a long list is only as fast as this.
"""

from collections import Counter

from msgspec import Struct

CONNECTIONS = 32
PER_USER = 8
FOR_ROOT = 8
RATE = 50.0
BURST = 100.0
#: Users remembered; those that asked for nothing lately are evicted first.
_USERS = 1000


class _Bucket(Struct):
    level: float
    at: float


class Admission:
    """Counts connections and requests by user.

    Args:
        rate: requests of a user a second, in the long run.
    """

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._open: Counter[int] = Counter()
        self._buckets: dict[int, _Bucket] = {}

    def enter(self, uid: int) -> bool:
        """Take a connection in, which must `leave` then; False if there are too many."""
        total = self._open.total()
        full = total >= CONNECTIONS
        if uid != 0:
            others = total - self._open[0]
            full |= self._open[uid] >= PER_USER or others >= CONNECTIONS - FOR_ROOT
        if not full:
            self._open[uid] += 1
        return not full

    def leave(self, uid: int) -> None:
        """Let a connection go."""
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]

    def delay(self, uid: int, now: float) -> float:
        """Count a request; return how many seconds it has to wait.

        Args:
            uid: who asks.
            now: seconds on a clock that never goes backwards.
        """
        bucket = self._buckets.pop(uid, None) or _Bucket(BURST, now)
        level = min(BURST, bucket.level + (now - bucket.at) * self._rate) - 1
        self._buckets[uid] = _Bucket(level, now)
        if len(self._buckets) > _USERS:
            del self._buckets[next(iter(self._buckets))]
        return max(0.0, -level / self._rate)
