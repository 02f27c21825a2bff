"""Elements in memory: what the kernel's sets are to the other backends. No rules, no packets.

Subjects may be names too (`account:alice`). State is gone with the process. Limits: `_ELEMENTS`
elements, further ones are refused as a full set refuses them.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from throttled import address, subjects
from throttled.enforce import entries
from throttled.enforce.backend import Applied, Fill, FullSet, Ruleset
from throttled.errors import BackendError
from throttled.model import ACTIONS, SCOPES, Action, Element, Entry, Rate, Scope

_ELEMENTS = 100_000
#: Seconds between searches for expired elements when full: 10 ms each time.
_SWEEP = 1.0

Key = tuple[str, Scope, Action]


class Memory:
    """Throttles and bans, and when each expires."""

    at_interfaces = False
    refuses = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing.

        Args:
            clock: seconds that only ever grow.
        """
        self._clock = clock
        self._ruleset: Ruleset | None = None
        self._ends: dict[Key, tuple[float, Rate | None]] = {}
        self._swept = -math.inf

    def setup(self, ruleset: Ruleset) -> bool:
        """Use these rules; elements stay."""
        before, self._ruleset = self._ruleset, ruleset
        return before is not None

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Add or remove elements; what cannot be is named in the result."""
        if self._ruleset is None:
            raise BackendError("there are no rules in place", "set them up first")
        now = self._clock()
        room = min(self._ruleset.size, _ELEMENTS)
        if len(self._ends) + len(entries) > room and not 0 <= now - self._swept < _SWEEP:
            self._swept = now
            self._ends = {key: ends for key, ends in self._ends.items() if ends[0] > now}
        failed: list[tuple[Entry, str]] = []
        full: set[FullSet] = set()
        for entry in entries:
            try:
                key = _key(entry)
            except ValueError as error:
                failed.append((entry, str(error)))
                continue
            if entry.seconds <= 0:
                self._ends.pop(key, None)
            elif key in self._ends or len(self._ends) < room:
                rate = entry.rate if entry.action == "throttle" else None
                self._ends[key] = now + entry.seconds, rate
            else:
                full.add(FullSet(_set(entry.scope, entry.action), entry.scope, entry.action))
                failed.append((entry, f"no more than {room} elements fit"))
        return Applied(tuple(failed), frozenset(full))

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that there are."""
        found = []
        for entry in entries:
            with suppress(ValueError):
                found += self._element(_key(entry))
        return found

    def dump(self) -> Iterator[Element]:
        """Yield every element."""
        for key in list(self._ends):
            yield from self._element(key)

    def dropped(self) -> int:
        """Return 0: there are no packets."""
        return 0

    def collect(self) -> None:
        """Leave it to `apply`."""

    def intact(self) -> bool:
        """Return whether there are rules."""
        return self._ruleset is not None

    def fill(self) -> list[Fill]:
        """Return how many elements there are, in sets that share one room."""
        size = 0 if self._ruleset is None else min(self._ruleset.size, _ELEMENTS)
        count = Counter((scope, action) for _subject, scope, action in self._ends)
        return [
            Fill(_set(scope, action), scope, action, count[scope, action], size)
            for scope in SCOPES
            for action in ACTIONS
        ]

    def watch(self) -> None:
        """Return None: no other program can change this process's memory."""
        return

    def present(self) -> bool:
        """Return False: the kernel has nothing."""
        return False

    def teardown(self) -> None:
        """Remove everything."""
        self._ruleset = None
        self._ends = {}

    def _element(self, key: Key) -> list[Element]:
        end, rate = self._ends.get(key, (0.0, None))
        left = end - self._clock()
        return [Element(*key, left, self._packets(key), rate)] if left > 0 else []

    def _packets(self, key: Key) -> int:  # noqa: ARG002 - for those that count
        return 0


def _set(scope: Scope, action: Action) -> str:
    return f"{scope}_{action}"


def _key(entry: Entry) -> Key:
    """Return the key of an entry's element.

    Raises:
        ValueError: see `entries.parse`; or its subject is no name, its time no time.
    """
    if not math.isfinite(entry.seconds):
        raise ValueError(f"not a time: {entry.seconds}")
    if address.kind(entry.subject) in ("address", "network"):
        entries.parse(entry)
        return address.subject(entry.subject), entry.scope, entry.action
    if subjects.of(entry.subject) is None:
        raise ValueError(f"no subject: {entry.subject!r}")
    if entry.action == "throttle" and entry.rate is not None:
        entries.write(entry.rate)
    return entry.subject, entry.scope, entry.action
