"""Applies entries to the kernel.

What the kernel refused stays pending here for `retry` (at most `_PENDING` elements, then the oldest
are evicted). One element that fails never stops the others.

Owns the backend, the pending elements, and those that did not fit into a full set. Blocks as long
as the kernel does.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from throttled import address
from throttled.clock import Moment
from throttled.core.refused import Refused
from throttled.enforce.backend import Applied, Backend
from throttled.errors import BackendError
from throttled.model import (
    ACTIONS,
    RESTRICTING,
    Action,
    Decision,
    Element,
    Entry,
    Scope,
)
from throttled.skipped import Skipped

log = logging.getLogger(__name__)

_PENDING = 100_000


class Enforcer:
    """The kernel, as the rest of the way sees it."""

    def __init__(self, backend: Backend | None, skipped: Skipped) -> None:
        """Take a backend.

        Args:
            backend: where elements are applied; None in a replay.
            skipped: where unexpected errors of single elements are counted.
        """
        self.backend = backend
        self.error: BackendError | None = None
        #: What the kernel has no room for.
        self.refused = Refused()
        self.errors = 0
        self.given_up = 0  # elements, as too many waited
        self._skipped = skipped
        #: Elements by what they are for, and when (boot clock) they had their seconds left.
        self._pending: dict[tuple[str, Scope, Action], tuple[Entry, float]] = {}
        self._full = False  # at the latest batch

    def pending(self) -> int:
        """Return how many elements wait for the kernel to take them."""
        return len(self._pending)

    def enforcing(self) -> bool:
        """Return whether what is decided is in a kernel."""
        backend = self.backend
        return backend is not None and backend.enforces and self.error is None

    def apply(self, entries: Sequence[Entry], now: Moment) -> None:
        """Apply entries; what the kernel refuses stays pending for `retry`.

        Args:
            entries: elements with the seconds that they have left now.
            now: both clocks.
        """
        if self.backend is None or not entries:
            return
        try:
            outcomes = self._skipped.each("element", entries, self.backend.apply)
        except BackendError as error:
            self._failed(error)
            self._defer(entries, now)
            return
        if self._pending:  # what is decided later holds
            for entry in entries:
                self._pending.pop(_key(entry), None)
        failed = tuple(each for applied in outcomes for each in applied.failed)
        full = frozenset(name for applied in outcomes for name in applied.full)
        self.refused.update(entries, Applied(failed, full), now.boot)
        if not (full and self._full):  # once, not with each batch
            for entry, why in failed[:10]:
                log.error("%s %s in %s failed: %s", entry.action, entry.subject, entry.scope, why)
        self._full = bool(full)
        self.errors += len(failed)

    def retry(self, repair: Callable[[], object], now: Moment) -> None:
        """Try again what the kernel refused.

        Args:
            repair: puts the backend's table in place again.
            now: both clocks.
        """
        if self.error is None:
            return
        try:
            repair()
        except BackendError as error:
            self.error = error
            return
        pending, self._pending, self.error = self._pending, {}, None
        left = (_later(entry, now.boot - since) for entry, since in pending.values())
        self.apply([entry for entry in left if entry is not None], now)

    def flush(self, setup: Callable[[], object]) -> bool:
        """Remove all elements at once, by making the backend's table anew; return whether it is.

        Args:
            setup: puts it in place, empty.
        """
        if self.backend is None:
            return False
        self._pending = {}
        self.refused.clear()
        try:
            self.backend.teardown()
            setup()
        except BackendError as error:
            self._failed(error)
            return False
        return True

    def counters(self, entries: Iterable[Entry]) -> Sequence[Element]:
        """Return elements with their packet counters; none where the kernel does not say."""
        asked = list(entries)
        if self.backend is None or not asked:
            return ()
        try:
            return self.backend.lookup(asked)
        except BackendError as error:
            log.warning("packet counters of renewed entries are lost: %s", error.message)
        except Exception as error:  # noqa: BLE001 - the decision counts, not its counter
            self._skipped.add("counter", error)
        return ()

    def _failed(self, error: BackendError) -> None:
        if self.error is None:
            log.error("%s. %s", error.message, error.hint)
        self.error = error
        self.errors += 1

    def _defer(self, entries: Sequence[Entry], now: Moment) -> None:
        for entry in entries:
            self._pending.pop(_key(entry), None)
            self._pending[_key(entry)] = entry, now.boot
        too_many = list(islice(self._pending, max(0, len(self._pending) - _PENDING)))
        self.given_up += len(too_many)
        for key in too_many:
            del self._pending[key]


def entries_of(
    decision: Decision, now: float, before: Mapping[tuple[str, Scope], Action | None]
) -> list[Entry]:
    """Return the elements that a decision wants. A release removes whatever is there.

    A throttle or ban also removes the exemption that was active `before`: of what is active in the
    kernel the strictest applies, but an exemption may last longer.
    """
    subject, scope, action = decision.subject, decision.scope, decision.action
    network = address.is_network(subject)  # only a single address can be exempt
    if action == "release":
        actions = [each for each in ACTIONS if not (network and each == "exempt")]
        return [Entry(subject, scope, each, 0.0) for each in actions]
    wanted = Entry(subject, scope, action, max(1.0, decision.until - now), decision.rate)
    if action == "exempt" or network or before.get((subject, scope), action) in RESTRICTING:
        return [wanted]
    return [Entry(subject, scope, "exempt", 0.0), wanted]


def _key(entry: Entry) -> tuple[str, Scope, Action]:
    return entry.subject, entry.scope, entry.action


def _later(entry: Entry, passed: float) -> Entry | None:
    """Return an element as it is some seconds later; None if it has ended."""
    if entry.seconds <= 0:
        return entry
    left = entry.seconds - passed
    return replace(entry, seconds=left) if left > 0 else None
