"""Who was freed by hand while the store could not be written: free until it can be told.

Freeing reaches the kernel whatever the store does. Until the store is told it still says that they
are in force, so whoever puts in the kernel what it says asks here first. What waits dies with the
daemon: a restart before the store works brings the bans back.

Owns what waits: at most `WAITING` names, then the earliest is let go.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from throttled.model import SCOPES, Entry, NetworkPast, Past, Scope, Snapshot
from throttled.store.store import Store

WAITING = 10_000

Key = tuple[str, Scope]
_Named = TypeVar("_Named", Entry, Snapshot)
_Known = TypeVar("_Known", Past, NetworkPast)


class Pardons:
    """What the store is to be told; "" stands for everybody, as in its table `pardon`."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[float, float]] = {}  # since when, exempt until: wall clock

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._waiting)

    def add(self, keys: Iterable[Key], at: float, exempt_until: float = 0.0) -> None:
        """Remember whom to free.

        Args:
            keys: whom, and where.
            at: since when, wall clock.
            exempt_until: see `Store.forget`.
        """
        for key in keys:
            self._waiting.pop(key, None)
            self._waiting[key] = at, exempt_until
            if len(self._waiting) > WAITING:
                del self._waiting[next(key for key in self._waiting if key[0])]  # not everybody

    def holds(self, subject: str, scope: Scope) -> bool:
        """Tell whether a subject is free, whatever the store says."""
        return (subject, scope) in self._waiting or ("", scope) in self._waiting

    def others(self, named: Iterable[_Named]) -> list[_Named]:
        """Return those of what the store says that are not free."""
        return [each for each in named if not self.holds(each.subject, each.scope)]

    def pasts(self, found: Mapping[Key, _Known]) -> dict[Key, _Known]:
        """Return what the store knows of subjects or networks as it will be when it was told."""
        return {key: self._past(key, past) for key, past in found.items()}

    def _past(self, key: Key, past: _Known) -> _Known:
        if not self.holds(*key):
            return past
        exempt = max(past.exempt_until, self._waiting.get(key, (0.0, 0.0))[1])
        past = replace(past, action=None, until=0.0, exempt_until=exempt)
        if isinstance(past, NetworkPast):
            return replace(past, banned=0)
        return replace(past, offences=0, last_offence=0.0)

    def flush(self, store: Store) -> None:
        """Tell the store, if it works by now.

        Raises:
            StoreError: it does not; what it was not told goes on waiting.
        """
        everybody = [("", scope) for scope in SCOPES]
        if all(key in self._waiting for key in everybody):  # both at once take a tenth of the time
            store.clear(max(self._waiting[key][0] for key in everybody))
            for key in everybody:
                del self._waiting[key]
        for (subject, scope), (at, exempt_until) in list(self._waiting.items()):
            if subject:
                store.forget(subject, scope, at, exempt_until)
            else:
                store.clear(at, scope)
            del self._waiting[subject, scope]
