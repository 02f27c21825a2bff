"""The nftables backend: the table `inet throttled`.

Rules are put in place as text by libnftables, elements over netlink (`messages` says why). State is
the kernel's; kept here is only which sets there are, how the kernel described the rules, and the
last ruleset, from which a set for networks of another length is made when the first of them comes.

Limits. With a million elements in a set everything costs what it costs with one, but for `dump`:
the kernel walks a hash set from its beginning for each 32 KiB that it hands out (10,000 elements
take 0.03 s, 200,000 3 s, 1,000,000 80 s). Before Linux 6.12 renewing an element sets its packet
counter to zero. Two expressions in an element, limit and counter, need Linux 5.11.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cached_property
from itertools import islice

from throttled.enforce import batch
from throttled.enforce.backend import Applied, Fill, FullSet, Ruleset
from throttled.enforce.nftables import ruleset as text
from throttled.enforce.nftables.elements import TableElements, plan
from throttled.enforce.nftables.libnftables import Libnftables
from throttled.enforce.nftables.watch import TableWatch
from throttled.enforce.set_backend import SetBackend
from throttled.enforce.sets import BASE, SetId
from throttled.errors import BackendError
from throttled.model import Element, Entry, Finding

log = logging.getLogger(__name__)

#: Entries of one transaction, which takes 5 MB; more take several.
_BATCH = 50_000
#: A set that holds more is not recreated for another size or rate: that would take seconds.
_REMADE = 100_000

_TRIAL = Ruleset({"mx": (25,)}, ("127.0.0.0/8", "::1"), rate=1, per=60.0, burst=1, size=1000)


class Nftables(SetBackend[bytes]):
    """Throttles and bans in a table of our own."""

    name = "nftables"
    enforces, at_interfaces, refuses = True, False, True

    def __init__(self) -> None:
        super().__init__()
        self._elements = TableElements()
        self._static: list[bytes] = []  # as the kernel described it after `setup`

    @cached_property
    def _libnftables(self) -> Libnftables:
        return Libnftables()

    def check(self) -> list[Finding]:
        """Let the kernel go through all sets and rules under another name, and take them back."""
        trial = text.render(_TRIAL, BASE, BASE, {}, "throttled_check")
        try:
            self._elements.definitions()
            self._libnftables.run(trial, trial=True)
        except BackendError as error:
            hint = error.hint or "needs Linux 5.11 or later; --mode observe needs no firewall"
            return [Finding("fault", error.message, hint)]
        return [Finding("ok", f"nftables works, on Linux {os.uname().release}")]

    def setup(self, ruleset: Ruleset) -> bool:
        """Put the rules in place; return whether our table was there.

        Sets of another size or rate are recreated with their elements. One with more than
        100,000 elements, or more than the new size, stays until it has fewer, which is logged.
        """
        for _ in range(2):  # once more: another program may have changed it at the same moment
            with suppress(BackendError):
                return self._install(ruleset, frozenset())
        # Its chain has another hook, a set is used by another program's rule, it is another table …
        self._libnftables.run(text.remove() + text.render(ruleset, BASE, BASE, {}))
        log.warning("the table inet %s was unusable and has been replaced", text.TABLE)
        self._note(ruleset, frozenset(BASE))
        return False

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch: one transaction for each 50,000 entries."""
        failed: list[tuple[Entry, str]] = []
        full: frozenset[FullSet] = frozenset()
        for at in range(0, len(entries), _BATCH):
            groups, unusable = plan(entries[at : at + _BATCH], self._known())
            placed, refused = self._placed(groups)
            applied = self._elements.commit(placed)
            failed += (*unusable, *refused, *applied.failed)
            full |= applied.full
        return Applied(tuple(failed), full)

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that the kernel holds."""
        return self._elements.lookup(entries, self._known())

    def dump(self) -> Iterator[Element]:
        """Yield every element. Slow with more than 100,000 of them; may run in another thread."""
        for of in sorted(self._elements.definitions()):
            yield from self._elements.dump(of)

    def dropped(self) -> int:
        """Return the packets dropped since the table was made; 0 where it is gone."""
        return self._elements.dropped()

    def collect(self) -> None:
        """Leave it to the kernel."""

    def intact(self) -> bool:
        """Return whether table, chains and rules are those that were put in place."""
        return bool(self._static) and self._elements.static() == self._static

    def fill(self) -> list[Fill]:
        """Return how full each set is; nothing before Linux 6.16, which does not say."""
        return self._elements.fill()

    def watch(self) -> TableWatch:
        """Subscribe to changes of our table by other programs."""
        return TableWatch()

    def present(self) -> bool:
        """Return whether the table of throttled exists and has sets."""
        return bool(self._elements.definitions())

    def teardown(self) -> None:
        """Remove the table."""
        self._libnftables.run(text.remove())
        self._ruleset, self._sets, self._static = None, frozenset(), []

    def _present(self) -> AbstractSet[SetId]:
        return self._elements.definitions().keys()

    def _gone(self) -> BackendError:
        return BackendError(
            f"there is no table inet {text.TABLE}, or it may not be changed",
            "a running throttled creates it, and restores it after a flush",
        )

    def _install(self, ruleset: Ruleset, more: AbstractSet[SetId]) -> bool:
        present = self._elements.definitions()
        idle = {
            of
            for of in present
            if of.rate and of not in more and next(self._elements.dump(of), None) is None
        }
        every = batch.every(present.keys() - idle, more)
        remake: dict[SetId, list[tuple[str, int]]] = {}
        for of, definition in present.items():
            if of in idle:
                continue
            wanted = text.definition(of, ruleset)
            if (definition.key, definition.flags) != (wanted.key, wanted.flags):
                remake[of] = []  # not our doing
            elif definition != wanted:
                most = min(_REMADE, ruleset.size)
                elements = [
                    (element.subject, max(1, int(element.seconds * 1000)))
                    for element in islice(self._elements.dump(of), most + 1)
                ]
                if len(elements) <= most:
                    remake[of] = elements
                else:
                    log.warning(
                        "%s has too many elements to be replaced: its definition is unchanged",
                        of.name,
                    )
        make = [of for of in every if of not in present]
        self._libnftables.run(text.render(ruleset, every, make, remake, drop=idle))
        self._note(ruleset, frozenset(every))
        return bool(present)

    def _note(self, ruleset: Ruleset, present: AbstractSet[SetId]) -> None:
        """Remember what has been put in place."""
        self._ruleset, self._sets, self._static = ruleset, present, self._elements.static()
