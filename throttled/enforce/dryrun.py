"""The backend that touches nothing: it remembers what the kernel would hold.

For `--mode observe` and for looking before leaping: `list`, `lookup` and `status` answer as they
would, and no packet is dropped. State is in memory, gone with the process, and at most 100,000
elements of it: more are refused as a full set refuses them. Nothing is ever dropped, so packet
counters stay 0.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from throttled import address
from throttled.enforce import entries
from throttled.errors import BackendError
from throttled.model import (
    ACTIONS,
    SCOPES,
    Action,
    Applied,
    Element,
    Entry,
    Fill,
    Finding,
    FullSet,
    Rate,
    Ruleset,
    Scope,
)

_ELEMENTS = 100_000
#: When full, those that ended are looked for once in so many seconds: 10 ms each time.
_SWEEP = 1.0

Key = tuple[str, Scope, Action]


class DryRun:
    """Remembers throttles and bans, and when each would end."""

    name = "dryrun"
    enforces, at_interfaces = False, False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing.

        Args:
            clock: seconds that only ever grow.
        """
        self._clock = clock
        self._ruleset: Ruleset | None = None
        self._ends: dict[Key, tuple[float, Rate | None]] = {}
        self._swept = -math.inf

    def check(self) -> list[Finding]:
        """Say that nothing is enforced."""
        return [Finding("ok", "dry run: entries are only in memory, nothing is enforced")]

    def setup(self, ruleset: Ruleset) -> bool:
        """Take the rules; what is remembered stays."""
        before, self._ruleset = self._ruleset, ruleset
        return before is not None

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Remember or forget; what cannot be is named in the result."""
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
                failed.append((entry, "the dry run's memory is full"))
        return Applied(tuple(failed), frozenset(full))

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that are remembered."""
        found = []
        for entry in entries:
            with suppress(ValueError):
                found += self._element(_key(entry))
        return found

    def dump(self) -> Iterator[Element]:
        """Yield all that is remembered."""
        for key in list(self._ends):
            yield from self._element(key)

    def dropped(self) -> int:
        """Return 0."""
        return 0

    def collect(self) -> None:
        """Leave it to `apply`."""

    def intact(self) -> bool:
        """Return whether there are rules."""
        return self._ruleset is not None

    def fill(self) -> list[Fill]:
        """Return what is remembered, in sets that share one room."""
        size = 0 if self._ruleset is None else min(self._ruleset.size, _ELEMENTS)
        used = Counter((scope, action) for _subject, scope, action in self._ends)
        return [
            Fill(_set(scope, action), scope, action, used[scope, action], size)
            for scope in SCOPES
            for action in ACTIONS
        ]

    def watch(self) -> None:
        """Nobody else can change what is in our memory."""
        return

    def present(self) -> bool:
        """Return False: the kernel has nothing."""
        return False

    def teardown(self) -> None:
        """Forget everything."""
        self._ruleset = None
        self._ends = {}

    def _element(self, key: Key) -> list[Element]:
        end, rate = self._ends.get(key, (0.0, None))
        left = end - self._clock()
        return [Element(*key, left, rate=rate)] if left > 0 else []


def _set(scope: Scope, action: Action) -> str:
    return f"{scope}_{action}"


def _key(entry: Entry) -> Key:
    """Return what an entry is remembered by.

    Raises:
        ValueError: see `entries.parse`, or its time is no time.
    """
    if not math.isfinite(entry.seconds):
        raise ValueError(f"not a time: {entry.seconds}")
    if address.is_named(entry.subject):
        return entry.subject, entry.scope, entry.action
    entries.parse(entry)
    return address.subject(entry.subject), entry.scope, entry.action
