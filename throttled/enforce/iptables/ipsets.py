"""Creates, fills, queries and dumps ipsets, over netlink, without the program ipset.

ip_set knows no transactions: elements of a batch take effect one after the other, some
microseconds apart. The kernel stops at an element that it refuses and names it; the batch continues
behind it.

A set can be asked whether it holds an element, but not for its time left and its packets: these
come with a dump only. So of a set with more than 20,000 elements they are not known: `seconds` is
nan then, `packets` 0.

Owns a netlink socket, and remembers for a minute which sets are that large.
"""

import errno
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from functools import cached_property

from msgspec.structs import replace

from throttled.enforce import batch
from throttled.enforce.backend import Applied, FullSet
from throttled.enforce.batch import Failure, Groups, Rivals
from throttled.enforce.entries import read
from throttled.enforce.iptables import messages, ruleset
from throttled.enforce.iptables.messages import IpsetDefinition, IpsetElement, IpsetHeader
from throttled.enforce.sets import SetId, place
from throttled.errors import BackendError
from throttled.linux.netlink import Message, error
from throttled.linux.netlink_socket import Netlink, netfilter
from throttled.model import Element, Entry

#: Elements of a set that are read to answer a question: some 10 ms.
_READ = 20_000
#: Seconds for which a set that had more is not tried again.
_LARGE = 60.0
#: Questions that are sent together.
_TOGETHER = 256

Verb = Callable[[str, Sequence[bytes]], bytes]


def plan(
    entries: Iterable[Entry], present: AbstractSet[SetId]
) -> tuple[Groups[SetId, int], list[Failure]]:
    """Sort entries by their sets, with the seconds left: see `batch.plan`.

    Args:
        entries: what is wanted.
        present: the sets that there are.
    """
    return batch.plan(entries, place, _seconds, Rivals(present).of)


def _seconds(entry: Entry, _key: bytes) -> int:
    return min(messages.LONGEST, max(0, math.ceil(entry.seconds)))


class GoneError(BackendError):
    """There is no such set."""


class Ipsets:
    """The sets, and their elements."""

    def __init__(self) -> None:
        self._large: dict[SetId, float] = {}

    @cached_property
    def _netlink(self) -> Netlink:
        return netfilter()

    # Sets

    def headers(self) -> dict[str, IpsetHeader]:
        """Return our sets by their names. O(elements): the kernel counts them."""
        return {each.name: each for each in self._headers() if ruleset.is_set(each.name)}

    def names(self) -> list[str]:
        """Return the names of all sets, other programs' too."""
        return [each.name for each in self._headers()]

    def trials(self) -> dict[str, int]:
        """Return the sets of trials, each with the process that made it."""
        found = ((each.name, ruleset.trial_of(each.name)) for each in self._headers())
        return {name: process for name, process in found if process is not None}

    def _headers(self) -> list[IpsetHeader]:
        with _refusals():
            try:
                answers = self._netlink.dump(messages.headers())
                return [header for each in answers if (header := messages.header_of(each))]
            except OSError as failure:
                if failure.errno != errno.EINVAL:  # this kernel has no ip_set
                    raise
        return []

    def count(self, name: str) -> int:
        """Return how many elements are in a set that stays; -1 where it is gone."""
        with suppress(GoneError), _refusals():
            found = map(messages.header_of, self._netlink.dump(messages.header(name)))
            return sum(header.elements for header in found if header)
        return -1

    def make(self, name: str, definition: IpsetDefinition, mask: int = 0) -> None:
        """Make a set; `mask`: see `messages.create`."""
        self._order(messages.create(name, definition, mask))

    def destroy(self, name: str) -> None:
        """Destroy a set, if there is one."""
        with suppress(GoneError):
            self._order(messages.destroy(name))

    @contextmanager
    def replacing(self, name: str, definition: IpsetDefinition) -> Iterator[str]:
        """Yield a new set to be filled, which then takes the place and the name of another."""
        spare = name + ruleset.SPARE
        self.destroy(spare)  # of one that was killed at this
        self.make(spare, definition)
        try:
            yield spare
            self._order(messages.swap(spare, name))
        finally:
            self.destroy(spare)

    def fill(self, name: str, networks: Iterable[tuple[bytes, int]]) -> None:
        """Put networks (prefix 0: addresses) into a set, for as long as the set says."""
        self._each(messages.add, name, networks)

    def clear(self, name: str, networks: Iterable[tuple[bytes, int]]) -> None:
        """Delete networks from a set, there or not."""
        self._each(messages.delete, name, networks)

    def _each(self, verb: Verb, name: str, networks: Iterable[tuple[bytes, int]]) -> None:
        packed = [messages.element(key, prefix, 0, 0) for key, prefix in networks]
        for at in range(0, len(packed), messages.TOGETHER):
            self._order(verb(name, packed[at : at + messages.TOGETHER]))

    # Elements

    def commit(self, groups: Groups[SetId, int], *, suffix: str = "") -> Applied:
        """Apply a batch.

        Args:
            groups: the entries by their sets.
            suffix: of the name of another set to be filled.

        Raises:
            BackendError: a set is gone, or this process is not permitted.
        """
        failed: list[Failure] = []
        full: set[FullSet] = set()
        for of, items in groups.items():
            name = ruleset.name(of) + suffix
            leave = [(key, left) for key, (entry, left) in items.items() if entry.seconds <= 0]
            stay = {key: item for key, item in items.items() if item[0].seconds > 0}
            wanted = [(key, left) for key, (_entry, left) in stay.items()]
            entries = [entry for entry, _left in stay.values()]
            with _refusals():
                self._send(messages.delete, name, _packed(of, leave))
                for line, number in self._send(messages.add, name, _packed(of, wanted)):
                    entry = entries[line // _parts(of)]
                    failed.append((entry, messages.reason(number) or os.strerror(number)))
                    if number == messages.FULL:
                        full.add(FullSet(name, of.scope, of.action))
        return Applied(tuple(failed), frozenset(full))

    def lookup(self, groups: Groups[SetId, int]) -> list[Element]:
        """Return those of the named elements that the kernel holds."""
        return [element for of, items in groups.items() for element in self._lookup(of, items)]

    def dump(self, of: SetId) -> Iterator[Element]:
        """Yield all elements of a set. Has a socket of its own, so others can work meanwhile."""
        halves: list[IpsetElement] = []
        for answer in _read(ruleset.name(of)):
            for start, end in messages.elements(answer):
                element = messages.read(answer.data, start, end)
                if of.prefix == 0:
                    halves.append(element)
                elif element.prefix == of.prefix:  # others are not our doing
                    yield _element(of, element.key, element.seconds, element.packets)
        if halves:
            yield _whole(of, halves)

    def counted(self, version: int) -> int:
        """Return the packets in the set that counts them; 0 where there is none."""
        with suppress(GoneError):
            return self.packets(ruleset.dropped(version))
        return 0

    def packets(self, name: str) -> int:
        """Return the packets that matched the elements of a set."""
        return sum(
            messages.read(answer.data, start, end).packets
            for answer in _read(name)
            for start, end in messages.elements(answer)
        )

    def _lookup(self, of: SetId, items: Mapping[bytes, tuple[Entry, int]]) -> list[Element]:
        present = self._present(of, items)
        if not present:
            return []
        if of.prefix == 0:
            return list(self.dump(of))
        known = self._known(of, present)
        return [
            _lasting(known[key], items[key][0]) if key in known else _element(of, key, math.nan, 0)
            for key in present
        ]

    def _present(self, of: SetId, keys: Iterable[bytes]) -> list[bytes]:
        """Return which of some keys are in a set."""
        asked = list(keys)
        name = ruleset.name(of)
        found = []
        for at in range(0, len(asked), _TOGETHER):
            questions = [
                messages.test(
                    name, messages.element(*messages.parts(key, of.prefix)[0], 0, 0), line
                )
                for line, key in enumerate(asked[at : at + _TOGETHER], at)
            ]
            with _refusals():
                for answer in self._netlink.ask(questions):
                    number = error(answer)
                    if number == 0:
                        found.append(asked[answer.sequence])
                    elif number == errno.ENOENT:
                        return []
                    elif number != messages.EXISTS:
                        raise OSError(number, "test")
        return found

    def _known(self, of: SetId, keys: Collection[bytes]) -> dict[bytes, Element]:
        """Return times and packets of what a set holds; nothing for what comes too late in it."""
        now = time.monotonic()
        if self._large.get(of, -_LARGE) > now - _LARGE:
            return {}
        wanted, size = set(keys), len(next(iter(keys)))
        found: dict[bytes, Element] = {}
        count = 0
        for answer in _read(ruleset.name(of)):
            data = answer.data
            for start, end in messages.elements(answer):
                count += 1
                if messages.key_of(data, start, size) in wanted:
                    key, _prefix, seconds, packets = messages.read(data, start, end)
                    found[key] = _element(of, key, seconds, packets)
            if count > _READ:
                self._large[of] = now
                break
        return found

    def _send(self, verb: Verb, name: str, packed: Sequence[bytes]) -> list[tuple[int, int]]:
        """Send elements; return the place and the error of each that the kernel refused.

        Raises:
            OSError: there is no such set, or this process is not permitted.
        """
        refused = []
        at = 0
        while at < len(packed):
            some = packed[at : at + messages.TOGETHER]
            at += len(some)
            for answer in self._netlink.ask([verb(name, some)]):
                if number := error(answer):
                    line = messages.line_of(answer) - 1  # the kernel takes 0 for none
                    if number < messages.PRIVATE or line < 0:
                        raise OSError(number, os.strerror(number))
                    refused.append((line, number))
                    at = line + 1
        return refused

    def _order(self, message: bytes) -> None:
        """Send a message.

        Raises:
            BackendError: it is not obeyed.
        """
        with _refusals():
            for answer in self._netlink.ask([message]):
                if number := error(answer):
                    raise OSError(number, messages.reason(number) or os.strerror(number))


def _parts(of: SetId) -> int:
    return 1 if of.prefix else 2


def _packed(of: SetId, items: Iterable[tuple[bytes, int]]) -> list[bytes]:
    packed: list[bytes] = []
    for key, seconds in items:
        for part, prefix in messages.parts(key, of.prefix):
            packed.append(messages.element(part, prefix, seconds, len(packed) + 1))
    return packed


def _element(of: SetId, key: bytes, seconds: float, packets: int) -> Element:
    return Element(of.subject(key), of.scope, of.action, seconds, packets, read(of.rate))


def _lasting(element: Element, wanted: Entry) -> Element:
    """Return what is to last longer than the kernel can count as if it would, half of that time.

    Else it would be taken for another element; in the second half it is, and so renewed.
    """
    if wanted.seconds > messages.LONGEST and element.seconds > messages.LONGEST / 2:
        return replace(element, seconds=wanted.seconds)
    return element


def _whole(of: SetId, halves: Sequence[IpsetElement]) -> Element:
    first = bytes(len(halves[0].key))
    packets = sum(half.packets for half in halves)
    return _element(of, first, min(half.seconds for half in halves), packets)


def _read(name: str) -> Iterator[Message]:
    """Yield the messages of a dump, from a socket of its own, so that it may be left early."""
    with _refusals(), netfilter() as netlink:
        yield from netlink.dump(messages.dump(name))


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the kernel says into what the operator can read."""
    try:
        yield
    except FileNotFoundError as failure:
        raise GoneError(
            "the ipset is missing",
            "a running throttled creates the sets, and restores them",
        ) from failure
    except OSError as failure:
        hint = "run as root or with CAP_NET_ADMIN" if failure.errno == errno.EPERM else ""
        why = messages.reason(failure.errno or 0) or failure.strerror
        raise BackendError(f"ipset: {why}", hint) from failure
