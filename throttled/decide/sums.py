"""How many within a window, by key, where nearly all keys are far from mattering. Pure.

A meter (see `throttled.decide.meter`) costs a microsecond an event, and 64 bytes a key however long
the window. Here each eighth of the window is a dict of plain numbers, so that counting is one
addition in a dict. The nine eighths of a key are summed when somebody asks; a running total is kept
only of keys that may be above the threshold: none is while none of its eighths is above a ninth of
it. Like a meter it counts never fewer than happened within T and nothing older than 9/8 T.

At the cap (of an eighth) keys that were counted once are dropped; all, where that is not enough.

Owns its numbers.
"""

from collections.abc import Iterable
from math import nan

from throttled.decide.meter import EIGHTHS

_LANES = EIGHTHS + 1


class Sums:
    """Sums of one window, by client or network."""

    __slots__ = (
        "_at",
        "_behind",
        "_cap",
        "_lanes",
        "_per_second",
        "_quota",
        "_tick",
        "_warm",
        "dropped",
    )

    def __init__(self, within: float, cap: int, threshold: int) -> None:
        """Begin with nothing counted.

        Args:
            within: the window, in seconds.
            cap: keys in an eighth of it.
            threshold: what `add` is asked about.
        """
        self._per_second = EIGHTHS / within
        self._cap = cap
        self._quota = threshold // _LANES
        self._lanes: list[dict[str, int]] = [{} for _ in range(_LANES)]  # the latest first
        self._tick = 0  # number of the latest eighth
        self._at = nan  # of the latest event counted …
        self._behind = 0  # … and how many eighths before the latest one that is
        self._warm: dict[str, int] = {}  # totals of keys of which an eighth may be above the quota
        #: Keys dropped before their time, because of the cap.
        self.dropped = 0

    def add(self, key: str, at: float, count: int) -> int:
        """Count, and return how many there now are, or 0 where that is not above the threshold."""
        if at != self._at:
            self._move(at)
        behind = self._behind
        if behind >= _LANES:
            return 0
        lane = self._lanes[behind]
        now = lane[key] = lane.get(key, 0) + count
        if key in self._warm:
            self._warm[key] += count
        elif behind or now > self._quota:  # lines may come late
            self._warm[key] = self._sum(key)
        if len(lane) > self._cap:
            self._make_room(behind)
        return self._warm.get(key, 0)

    def subtract(self, key: str, at: float, count: int) -> None:
        """Count less what was counted at `at`; never below zero."""
        behind = self._tick - int(at * self._per_second)
        if 0 <= behind < _LANES and key in self._lanes[behind]:
            lane = self._lanes[behind]
            less = min(count, lane[key])
            lane[key] -= less
            if key in self._warm:
                self._warm[key] -= less

    def value(self, key: str, at: float) -> int:
        """Return how many there are within the window that ends at `at`."""
        ahead = max(0, int(at * self._per_second) - self._tick)
        return self._sum(key, max(0, _LANES - ahead))

    def pop(self, key: str) -> None:
        """Forget a key."""
        for lane in self._lanes:
            lane.pop(key, None)
        self._warm.pop(key, None)

    def clear(self) -> None:
        """Forget every key."""
        self._lanes = [{} for _ in range(_LANES)]
        self._warm = {}

    def watch(self, threshold: int) -> None:
        """Ask `add` about another threshold from now on."""
        self._quota = threshold // _LANES
        for lane in self._lanes:
            above = (key for key, count in lane.items() if count > self._quota)
            self._warm |= {key: self._sum(key) for key in above}

    def _sum(self, key: str, lanes: int = _LANES) -> int:
        total = 0
        for lane in self._lanes[:lanes]:  # twice as fast as a generator, and asked often
            if key in lane:
                total += lane[key]
        return total

    def _move(self, at: float) -> None:
        """Count at another time from now on; not necessarily a later one."""
        self._at = at
        tick = int(at * self._per_second)
        if tick > self._tick:
            self._begin(tick)
        self._behind = self._tick - tick

    def _begin(self, tick: int) -> None:
        """Begin an eighth of the window."""
        ahead = min(_LANES, tick - self._tick)
        self._lanes = [{} for _ in range(ahead)] + self._lanes[: _LANES - ahead]
        self._tick = tick
        self._cool(self._warm)

    def _cool(self, keys: Iterable[str]) -> None:
        """Sum warm keys again; keep a total of those whose eighths may still be above the quota."""
        for key in [key for key in keys if key in self._warm]:
            total = self._sum(key)
            if total > self._quota:
                self._warm[key] = total
            else:
                del self._warm[key]

    def _make_room(self, behind: int) -> None:
        """Drop keys of an eighth."""
        lane = self._lanes[behind]
        kept = {key: count for key, count in lane.items() if count > 1}
        if len(kept) > self._cap // 2:
            kept = {}
        self.dropped += len(lane) - len(kept)
        self._lanes[behind] = kept
        self._cool(lane.keys() - kept.keys())
