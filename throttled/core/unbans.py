"""Unbans that could not be recorded because the store failed; recorded when it works again.

An unban reaches the kernel whatever the store does. Until it is recorded the store still names the
subject as active, so whatever restores entries from the store asks here first. Pending unbans are
lost if the daemon stops: its next start then restores the bans.

Owns the pending unbans: at most `PENDING`, then the earliest is evicted.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from throttled.model import SCOPES, Entry, NetworkPast, Past, Scope, Snapshot
from throttled.store.store import Store

PENDING = 10_000

Key = tuple[str, Scope]
_Named = TypeVar("_Named", Entry, Snapshot)
_Known = TypeVar("_Known", Past, NetworkPast)


class PendingUnbans:
    """Unbans to record; the subject "" stands for every subject, as in the table `pardon`."""

    def __init__(self) -> None:
        self._pending: dict[Key, tuple[float, float]] = {}  # since when, exempt until: wall clock

    def __bool__(self) -> bool:
        """Return whether any unban is pending."""
        return bool(self._pending)

    def add(self, keys: Iterable[Key], at: float, exempt_until: float = 0.0) -> None:
        """Add unbans.

        Args:
            keys: subjects and scopes.
            at: when they were unbanned, wall clock.
            exempt_until: see `Unbans.unban`.
        """
        for key in keys:
            self._pending.pop(key, None)
            self._pending[key] = at, exempt_until
            if len(self._pending) > PENDING:
                del self._pending[next(key for key in self._pending if key[0])]  # not every

    def covers(self, subject: str, scope: Scope) -> bool:
        """Return whether a subject has a pending unban, whatever the store says."""
        return (subject, scope) in self._pending or ("", scope) in self._pending

    def others(self, named: Iterable[_Named]) -> list[_Named]:
        """Return those of the store's entries that have no pending unban."""
        return [each for each in named if not self.covers(each.subject, each.scope)]

    def pasts(self, found: Mapping[Key, _Known]) -> dict[Key, _Known]:
        """Return the store's records of subjects or networks as they will be after the unbans."""
        return {key: self._past(key, past) for key, past in found.items()}

    def _past(self, key: Key, past: _Known) -> _Known:
        if not self.covers(*key):
            return past
        exempt = max(past.exempt_until, self._pending.get(key, (0.0, 0.0))[1])
        past = replace(past, action=None, until=0.0, exempt_until=exempt)
        if isinstance(past, NetworkPast):
            return replace(past, banned=0)
        return replace(past, offences=0, last_offence=0.0)

    def flush(self, store: Store) -> None:
        """Record the pending unbans.

        Raises:
            StoreError: the store still fails; what was not recorded stays pending.
        """
        every = [("", scope) for scope in SCOPES]
        if all(key in self._pending for key in every):  # both at once take a tenth of the time
            store.unbans.clear(max(self._pending[key][0] for key in every))
            for key in every:
                del self._pending[key]
        for (subject, scope), (at, exempt_until) in list(self._pending.items()):
            if subject:
                store.unbans.unban(subject, scope, at, exempt_until)
            else:
                store.unbans.clear(at, scope)
            del self._pending[subject, scope]
