"""Samples of the kernel, compared with the store: by number, and by looking some entries up.

Owns the result of the latest check.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.restoring import Kind
from throttled.decide.reconcile import missing
from throttled.enforce.backend import Backend, Fill
from throttled.model import Finding

#: Random places of the store per check, and entries at each place.
_PLACES, _NEIGHBOURS = 16, 8
#: Elements that expire within these seconds are not checked.
ENDS = 5.0
#: Reported: a set filled to this share.
_NEARLY = 0.9


class Sampler:
    """Compares samples.

    Args:
        backend: the kernel.
        pipeline: whose store says what should be active.
    """

    def __init__(self, backend: Backend, pipeline: Pipeline) -> None:
        #: How full the sets were at the latest check.
        self.fills: Sequence[Fill] = ()
        self._backend = backend
        self._pipeline = pipeline
        # Of the latest sample: how many should be active, and how many of those were not and had
        # not been refused.
        self._sampled = self._absent = 0
        # How many elements were missing, and how many checks in a row found some missing.
        self._lacking = self._lacked = 0

    def enforced(self, desired: Mapping[Kind, int]) -> tuple[int, bool]:
        """Return how many elements the kernel holds of those that it should.

        Args:
            desired: how many it should.

        Returns:
            The number; and whether the kernel counted them: else it is judged by the last sample.

        Raises:
            BackendError: the kernel cannot be asked.
        """
        self.fills = self._backend.fill()
        if self.fills:
            used = used_of(self.fills)
            return sum(min(count, used[kind]) for kind, count in desired.items()), True
        if not self._backend.intact():  # then it has no sets to count, or asks none
            return 0, True
        refused = self._pipeline.enforcer.refused.counts
        total = sum(desired.values())
        known = sum(min(count, refused[kind]) for kind, count in desired.items())
        lacking = total * self._absent // self._sampled if self._sampled else 0
        return max(0, total - known - max(lacking, self._pipeline.enforcer.pending())), False

    def findings(self) -> list[Finding]:
        """Return which sets are full or nearly, else what is missing again and again."""
        found = self._full()
        if self._lacked > 1 and not found and self._pipeline.enforcer.error is None:
            what = f"the kernel lacks {self._lacking:,} elements that it should have"
            hint = "they are restored at each check: does another program remove them?"
            found.append(Finding("warning", what, hint, "kernel-lacks"))
        return found

    def check(self, moment: Moment) -> bool:
        """Return what `lacks` returns, and count for `findings` how often it was so."""
        lacking = self.lacks(moment)
        self._lacked = self._lacked + 1 if lacking else 0
        return lacking

    def full(self) -> bool:
        """Return whether a set is full, which explains missing elements."""
        return any(fill.used >= fill.size for fill in self.fills) or bool(
            self._pipeline.enforcer.refused.sets()
        )

    def lacks(self, moment: Moment) -> bool:
        """Return whether the kernel lacks elements, by count and by sample; restore the sample."""
        store = self._pipeline.recorder.store
        self.fills = self._backend.fill()
        used = used_of(self.fills)
        found = (e for _ in range(_PLACES) for e in store.active.sample(moment.wall, _NEIGHBOURS))
        sample = [entry for entry in dict.fromkeys(found) if entry.seconds > ENDS]
        sample = self._pipeline.recorder.unbans.others(sample)
        parts = self._pipeline.skipped.each("row", sample, lambda s: list(self._backend.lookup(s)))
        absent = missing(sample, [element for part in parts for element in part])
        self._pipeline.enforcer.apply(absent, moment)
        unexplained = sum(entry not in self._pipeline.enforcer.refused for entry in absent)
        self._sampled, self._absent = len(sample), unexplained
        complete = not self._pipeline.recorder.unbans  # else the store counts too many
        desired = store.active.counts(moment.wall) if self.fills and complete else {}
        fewer = sum(max(0, count - used[kind]) for kind, count in desired.items())
        self._lacking = max(len(absent), fewer)
        return self._lacking > 0

    def _full(self) -> list[Finding]:
        """Return which sets are full, by what the kernel refused, or nearly, where it counts."""
        hint = "what does not fit is stored, and added when there is room: raise [firewall] size"
        refused = self._pipeline.enforcer.refused
        found = [
            Finding(
                "fault",
                f"the set {each.name} is full: {refused.counts[each.scope, each.action]:,} "
                f"{each.scope} {each.action}s do not fit",
                hint,
                f"set-full:{each.name}",
            )
            for each in refused.sets()
        ]
        known = {finding.key for finding in found}
        counted = [
            Finding(
                "fault" if fill.used >= fill.size else "warning",
                f"the set {fill.name} has {fill.used:,} of at most {fill.size:,} elements",
                hint,
                f"set-full:{fill.name}",
            )
            for fill in self.fills
            if fill.used >= _NEARLY * fill.size
        ]
        return found + [finding for finding in counted if finding.key not in known]


def used_of(fills: Sequence[Fill]) -> Counter[Kind]:
    """Return how many elements the sets have of each kind."""
    used: Counter[Kind] = Counter()
    for fill in fills:
        used[fill.scope, fill.action] += fill.used
    return used
