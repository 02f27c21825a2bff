"""What backends with a set in the kernel for each `SetId` share."""

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from typing import Generic

from throttled.enforce.backend import Ruleset
from throttled.enforce.batch import Failure, Groups, Packed, fit, missing
from throttled.enforce.sets import SetId
from throttled.errors import BackendError


class SetBackend(ABC, Generic[Packed]):
    """Owns which sets there are, as last seen, and the last ruleset, by which more are made."""

    def __init__(self) -> None:
        self._ruleset: Ruleset | None = None
        self._sets: AbstractSet[SetId] = frozenset()

    @abstractmethod
    def _present(self) -> AbstractSet[SetId]:
        """Return the sets that the kernel has."""

    @abstractmethod
    def _install(self, ruleset: Ruleset, more: AbstractSet[SetId]) -> bool:
        """Put the rules in place, with more sets; return whether throttled had rules before."""

    @abstractmethod
    def _gone(self) -> BackendError:
        """Return the error for an operator where there are no sets, or no rules to add one to."""

    def _known(self) -> AbstractSet[SetId]:
        """Return the existing sets; a command asks the kernel, because the daemon made them."""
        if not self._sets:
            self._sets = self._present()
        return self._sets

    def _placed(self, groups: Groups[SetId, Packed]) -> tuple[Groups[SetId, Packed], list[Failure]]:
        """Make the sets that groups need; return what is placed where, see `batch.fit`.

        Raises:
            BackendError: see `_gone`.
        """
        if groups.keys() <= self._sets:
            return groups, []
        self._sets = self._present()
        more = missing(groups, self._sets)
        if not self._sets or (more and self._ruleset is None):
            raise self._gone()
        if more and self._ruleset is not None:
            self._install(self._ruleset, more)
        return fit(groups, self._sets, more)
