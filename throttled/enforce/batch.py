"""A batch of entries, sorted by the sets that they belong to. Pure.

A throttled subject is in the set of its rate alone, so a batch also removes it from the sets of
other rates. A set is made when the first element of its kind comes, as long as `RATES` allows it.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

from msgspec.structs import replace

from throttled.enforce.sets import BASE, SetId
from throttled.model import Entry

#: Different rates that throttles may have beside the configured one: each is a rule that new
#: connections pass, for each prefix length. At one more the configured rate applies.
RATES = 32
TOO_MANY = f"the configured rate applies: there are {RATES} other rates already"

Id = TypeVar("Id")
Packed = TypeVar("Packed")
#: Of each set, by key: the entry, and what its backend makes of that.
Groups = Mapping[Id, Mapping[bytes, tuple[Entry, Packed]]]
Failure = tuple[Entry, str]


class Rivals:
    """The sets in which a throttled subject may be instead: those of other rates."""

    def __init__(self, present: AbstractSet[SetId]) -> None:
        """Remember the sets that there are."""
        self._sets = present
        self._found: dict[SetId, list[SetId]] = {}

    def of(self, wanted: SetId) -> list[SetId]:
        """Return the rivals of a set, of those present or asked about before; of bans none."""
        if wanted.action != "throttle":
            return []
        found = self._found.get(wanted)
        if found is None:
            self._sets = {*self._sets, wanted}
            self._found = {}
            found = [of for of in self._sets if of[:4] == wanted[:4] and of != wanted]
            self._found[wanted] = found
        return found


def plan(
    entries: Iterable[Entry],
    place: Callable[[Entry], tuple[Id, bytes]],
    pack: Callable[[Entry, bytes], Packed],
    rivals: Callable[[Id], Iterable[Id]] = lambda _of: (),
) -> tuple[dict[Id, dict[bytes, tuple[Entry, Packed]]], list[Failure]]:
    """Sort entries by their sets, the last one for an element alone; name those that cannot be.

    Args:
        entries: what is wanted.
        place: returns the set and the key of an entry, or raises a ValueError.
        pack: returns what the backend makes of an entry and its key, or raises a ValueError or an
            OverflowError.
        rivals: returns the sets that an element of a set is to be removed from.
    """
    found: dict[Id, dict[bytes, tuple[Entry, Packed]]] = {}
    failed: list[Failure] = []
    for entry in entries:
        try:
            of, key = place(entry)
            packed = pack(entry, key)
        except (ValueError, OverflowError) as error:
            failed.append((entry, str(error)))
            continue
        found.setdefault(of, {})[key] = entry, packed
        for other in rivals(of):
            gone = replace(entry, seconds=0.0)
            found.setdefault(other, {})[key] = gone, pack(gone, key)
    return found, failed


def missing(groups: Groups[SetId, Packed], present: AbstractSet[SetId]) -> set[SetId]:
    """Return the sets that something is to be added to and that there are not."""
    return {
        of
        for of, items in groups.items()
        if of not in present and any(entry.seconds > 0 for entry, _packed in items.values())
    }


def fit(
    groups: Groups[SetId, Packed], present: AbstractSet[SetId], wanted: AbstractSet[SetId]
) -> tuple[Groups[SetId, Packed], list[Failure]]:
    """Return the groups for the sets that there are, without removals from others.

    Also returns the throttles that the cap on rates keeps from their own rate; they are placed in
    the set of the configured one.

    Args:
        groups: what is wanted.
        present: the sets that there are.
        wanted: those that were asked for.
    """
    placed = {of: dict(items) for of, items in groups.items() if of in present}
    refused: list[Failure] = []
    for of in wanted - present:
        items = {key: item for key, item in groups[of].items() if item[0].seconds > 0}
        placed.setdefault(of._replace(rate=""), {}).update(items)
        refused += [(entry, TOO_MANY) for entry, _packed in items.values()]
    return placed, refused


def every(present: AbstractSet[SetId], more: Iterable[SetId]) -> list[SetId]:
    """Return all sets that rules are written for: `BASE`, those present, and more as allowed."""
    rates = {of.rate for of in present if of.rate}
    found = set(present)
    for of in sorted(more):
        if len(rates | {of.rate} - {""}) <= RATES:
            rates |= {of.rate} - {""}
            found.add(of)
    return [*BASE, *sorted(found - set(BASE))]
