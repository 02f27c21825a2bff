"""Elements that found no room in a set of the kernel: recorded, and not active.

Not every kernel counts the elements of a set (nftables since Linux 6.16, BPF maps since 6.3); each
says when it refuses one. From that the daemon knows what is not enforced, and which set is full.

Owns what was refused: at most `LIMIT` elements, then the earliest is no longer known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from throttled.enforce.backend import Applied, FullSet
from throttled.model import Action, Entry, Scope

LIMIT = 100_000

Key = tuple[str, Scope, Action]
Kind = tuple[Scope, Action]


class Refused:
    """What the kernel refused and did not take since, until it would have expired."""

    def __init__(self) -> None:
        self._ends: dict[Key, float] = {}  # boot clock
        self._sets: set[FullSet] = set()
        #: How many elements of each kind the kernel refused.
        self.counts: Counter[Kind] = Counter()

    def update(self, entries: Sequence[Entry], applied: Applied, boot: float) -> None:
        """Record what became of a batch.

        Args:
            entries: the batch.
            applied: what the backend says of it.
            boot: now, on the boot clock.
        """
        if not self._ends and not applied.full:
            return
        self._remove(_key(entry) for entry in entries)
        self._sets |= applied.full
        kinds = {(each.scope, each.action) for each in applied.full}
        for entry, _why in applied.failed:
            if (entry.scope, entry.action) in kinds:
                self._ends[_key(entry)] = boot + entry.seconds
                self.counts[entry.scope, entry.action] += 1
        self._remove(list(islice(self._ends, max(0, len(self._ends) - LIMIT))))

    def __contains__(self, entry: Entry) -> bool:
        """Return whether an element is known to have found no room."""
        return _key(entry) in self._ends

    def expire(self, boot: float) -> None:
        """Leave out what would have expired by now."""
        self._remove([key for key, end in self._ends.items() if end <= boot])

    def clear(self) -> None:
        """Record that nothing is wanted any more."""
        self._remove(list(self._ends))

    def sets(self) -> list[FullSet]:
        """Return the full sets by name: those of kinds of which something is refused."""
        self._sets = {each for each in self._sets if self.counts[each.scope, each.action]}
        return sorted(self._sets, key=lambda each: each.name)

    def _remove(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if self._ends.pop(key, None) is not None:
                self.counts[key[1:]] -= 1


def _key(entry: Entry) -> Key:
    return entry.subject, entry.scope, entry.action
