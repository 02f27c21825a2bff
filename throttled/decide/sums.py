"""How many within a window, by key, where nearly all keys are far from mattering. Pure.

A meter (see `throttled.decide.meter`) costs a microsecond an event, and 64 bytes a key however long
the window. Here each eighth of the window is a dict of plain numbers, so that counting is one
addition in a dict. The nine eighths of a key are summed only when somebody asks, or when they may
be above the threshold: none is while none of its eighths is above a ninth of it. Like a meter it
counts never fewer than happened within T and nothing older than 9/8 T.

At the cap (of an eighth) keys that were counted once are dropped; all, where that is not enough.

Owns its numbers.
"""

from throttled.decide.meter import EIGHTHS

_LANES = EIGHTHS + 1


class Sums:
    """Sums of one window, by client or network."""

    __slots__ = ("_cap", "_lanes", "_per_second", "_quota", "_tick", "_warm", "dropped")

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
        self._warm: dict[str, int] = {}  # keys above the quota: in which eighth they were last
        #: Keys dropped before their time, because of the cap.
        self.dropped = 0

    def add(self, key: str, at: float, count: int) -> int:
        """Count, and return how many there now are, or 0 where that is not above the threshold."""
        tick = int(at * self._per_second)
        if tick > self._tick:
            self._begin(tick)
        behind = self._tick - tick
        if behind >= _LANES:
            return 0
        lane = self._lanes[behind]
        now = lane[key] = lane.get(key, 0) + count
        if len(lane) > self._cap:
            self._make_room(behind)
        if behind or now > self._quota:  # lines may come late
            self._warm[key] = self._tick
        elif key not in self._warm:
            return 0
        return sum(lane.get(key, 0) for lane in self._lanes)

    def subtract(self, key: str, at: float, count: int) -> None:
        """Count less what was counted at `at`; never below zero."""
        behind = self._tick - int(at * self._per_second)
        if 0 <= behind < _LANES and key in self._lanes[behind]:
            lane = self._lanes[behind]
            lane[key] = max(0, lane[key] - count)

    def value(self, key: str, at: float) -> int:
        """Return how many there are within the window that ends at `at`."""
        ahead = max(0, int(at * self._per_second) - self._tick)
        return sum(lane.get(key, 0) for lane in self._lanes[: max(0, _LANES - ahead)])

    def pop(self, key: str) -> None:
        """Forget a key."""
        for lane in self._lanes:
            lane.pop(key, None)

    def clear(self) -> None:
        """Forget every key."""
        self._lanes = [{} for _ in range(_LANES)]
        self._warm = {}

    def watch(self, threshold: int) -> None:
        """Ask `add` about another threshold from now on."""
        self._quota = threshold // _LANES
        for lane in self._lanes:
            self._warm |= {key: self._tick for key, count in lane.items() if count > self._quota}

    def _begin(self, tick: int) -> None:
        """Begin an eighth of the window."""
        ahead = min(_LANES, tick - self._tick)
        self._lanes = [{} for _ in range(ahead)] + self._lanes[: _LANES - ahead]
        self._tick = tick
        oldest = tick - EIGHTHS
        self._warm = {key: last for key, last in self._warm.items() if last >= oldest}

    def _make_room(self, behind: int) -> None:
        """Drop keys of an eighth; of the warm ones those of the latest eighth go with them."""
        lane = self._lanes[behind]
        kept = {key: count for key, count in lane.items() if count > 1}
        if len(kept) > self._cap // 2:
            kept = {}
        self.dropped += len(lane) - len(kept)
        self._lanes[behind] = kept
        warm = self._warm.items()
        self._warm = {key: last for key, last in warm if key in kept or last < self._tick}
