"""What the sets of our table hold: put in, asked for, dumped. Over netlink, without libnftables.

A batch is one transaction. Since Linux 6.12 adding an element that is there renews it; before,
its old time stays, so there it is added, deleted and added again, which also sets its counter and
its limit back. A removal adds before it deletes, so that what is absent is no error. What the
kernel refuses is never the ordinary way: to take a transaction back takes it 16 ms. Then the sets
without a fault go in together, and the others piece by piece.

Owns a netlink socket, nothing else.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from functools import cached_property

from throttled.enforce import batch
from throttled.enforce.backend import Applied, Fill, FullSet
from throttled.enforce.batch import Failure, Groups, Rivals
from throttled.enforce.entries import read
from throttled.enforce.nftables import messages
from throttled.enforce.nftables.messages import NftElement, SetDefinition, Verb
from throttled.enforce.nftables.ruleset import COUNTER, TABLE
from throttled.enforce.sets import SetId, parse_name, place
from throttled.errors import BackendError
from throttled.linux.netlink import ERROR, Message, error
from throttled.linux.netlink_socket import Netlink, netfilter
from throttled.model import Element, Entry

#: Elements of one message, as the length of a list has 16 bits.
_TOGETHER = 1000
#: Milliseconds that an element lasts which is added and removed in one transaction. Kernels before
#: 2024 check the timeout within it, and cannot delete an element that has expired meanwhile.
_MEANWHILE = 60_000
#: Whether adding renews.
_RENEWS = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 12)

#: An entry and its packed element.
Item = tuple[Entry, bytes]


def plan(
    entries: Iterable[Entry], present: AbstractSet[SetId]
) -> tuple[Groups[SetId, bytes], list[Failure]]:
    """Sort entries by their sets and pack them: see `batch.plan`.

    Args:
        entries: what is wanted.
        present: the sets that there are.
    """
    return batch.plan(entries, place, _pack, Rivals(present).of)


def _pack(entry: Entry, key: bytes) -> bytes:
    least = 1 if entry.seconds > 0 else _MEANWHILE
    return messages.element(key, max(least, int(entry.seconds * 1000)))


class TableElements:
    """The elements in the sets of our table."""

    @cached_property
    def _netlink(self) -> Netlink:
        return netfilter()

    def commit(self, groups: Groups[SetId, bytes]) -> Applied:
        """Apply a batch.

        Raises:
            BackendError: nothing could be: the table is gone, or this process is not permitted.
        """
        errors = self._try({of: [*items.values()] for of, items in groups.items()})
        if not errors:
            return Applied()
        failed: list[Failure] = []
        full: frozenset[FullSet] = frozenset()
        if healthy := {of: items for of, items in groups.items() if of not in errors}:
            rest = self.commit(healthy)
            failed, full = list(rest.failed), rest.full
        for of, number in errors.items():
            full_set = number == errno.ENFILE
            items = self._present_first(of, groups[of]) if full_set else [*groups[of].values()]
            pieces = self._piecemeal(of, items)
            failed += pieces.failed
            full |= pieces.full
        return Applied(tuple(failed), full)

    def lookup(self, entries: Iterable[Entry], present: AbstractSet[SetId]) -> list[Element]:
        """Return those of the named elements that the kernel holds in the sets that there are."""
        groups, _unusable = plan(entries, present)
        return [
            element
            for of, items in groups.items()
            for element in _elements_of(of, self._ask(of, items.values()))
        ]

    def dump(self, of: SetId) -> Iterator[Element]:
        """Yield all elements of a set. Has a socket of its own, so others can work meanwhile."""
        reader = messages.ElementReader()
        with self._refusals(), netfilter() as netlink:
            for answer in netlink.dump(messages.dump_elements(TABLE, of.name)):
                yield from _elements_of(of, reader.elements(answer))

    def definitions(self) -> dict[SetId, SetDefinition]:
        """Return the sets that there are; none where there is no table."""
        found = {}
        with self._refusals(), suppress(FileNotFoundError):
            for answer in self._netlink.dump(messages.dump_sets(TABLE)):
                name, definition = messages.set_of(answer)
                if of := parse_name(name):
                    found[of] = definition
        return found

    def fill(self) -> list[Fill]:
        """Return how full the sets are; nothing where the kernel does not count (Linux 6.16)."""
        found = []
        with self._refusals(), suppress(FileNotFoundError):
            for answer in self._netlink.dump(messages.dump_sets(TABLE)):
                name, definition = messages.set_of(answer)
                of, count = parse_name(name), messages.count_of(answer)
                if of and count is not None:
                    found.append(Fill(name, of.scope, of.action, count, definition.size))
        return found

    def static(self) -> list[bytes]:
        """Return table, chains and rules as the kernel describes them; nothing where none are."""
        with self._refusals(), suppress(FileNotFoundError):
            return [
                messages.body(answer)
                for question in messages.dump_static(TABLE)
                for answer in self._netlink.dump(question)
                if messages.table_of(answer) == TABLE
            ]
        return []

    def dropped(self) -> int:
        """Return what the table's counter says; 0 where there is none."""
        with self._refusals():
            answers = _found(self._netlink.ask([messages.get_counter(TABLE, COUNTER)]))
            return sum(map(messages.packets_of, answers))

    def _try(self, groups: Mapping[SetId, Sequence[Item]]) -> dict[SetId, int]:
        """Send one transaction; return the first errno of each set that failed, or nothing.

        Raises:
            BackendError: the table or a set is gone, or the kernel refused the whole.
        """
        parts: list[bytes] = []
        owners: list[SetId] = []
        for of, items in groups.items():
            for at in range(0, len(items), _TOGETHER):
                for verb, packed in _verbs(items[at : at + _TOGETHER]):
                    owners.append(of)
                    parts.append(verb(TABLE, of.name, packed, len(owners)))
        errors: dict[SetId, int] = {}
        with self._refusals():
            for answer in self._netlink.ask([messages.transaction(parts)]):
                at, number = answer.sequence, error(answer)
                if answer.kind != ERROR or not number:
                    continue
                first = errors.setdefault(owners[at - 1], number) if at else number
                if at == 0 or first in (errno.ENOENT, errno.EPERM):
                    raise OSError(number, os.strerror(number))
        return errors

    def _piecemeal(self, of: SetId, items: Sequence[Item]) -> Applied:
        """Apply what is possible: halve the piece at an error, double it after a success."""
        failed: list[Failure] = []
        at, step = 0, len(items)
        while at < len(items):
            piece = items[at : at + step]
            number = self._try({of: piece}).get(of)
            if number is None:
                at += step
                step *= 2
            elif len(piece) > 1:
                step = len(piece) // 2
            elif number == errno.ENFILE:
                why = f"the set {of.name} is full"
                full = frozenset({FullSet(of.name, of.scope, of.action)})
                return Applied((*failed, *((item[0], why) for item in items[at:])), full)
            else:
                failed.append((piece[0][0], os.strerror(number)))
                at += 1
        return Applied(tuple(failed))

    def _present_first(self, of: SetId, items: Mapping[bytes, Item]) -> list[Item]:
        """Put first what a full set can still take; leave out the removal of what is absent."""
        present = {each.key for each in self._ask(of, items.values())}
        new = [it for key, it in items.items() if key not in present and it[0].seconds > 0]
        return [it for key, it in items.items() if key in present] + new

    def _ask(self, of: SetId, items: Iterable[Item]) -> Iterator[NftElement]:
        """Yield those of the elements that a set has."""
        reader = messages.ElementReader()
        questions = [messages.get_element(TABLE, of.name, packed) for _entry, packed in items]
        with self._refusals():
            for answer in _found(self._netlink.ask(questions)):
                yield from reader.elements(answer)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Say what a refusal of the kernel means to an operator.

        The next request gets another socket: this one may have unread answers.
        """
        try:
            yield
        except OSError as refused:
            self.__dict__.pop("_netlink", None)
            what, hint = f"the kernel refused: {refused.strerror}", ""
            if refused.errno == errno.ENOENT:
                what = f"the table inet {TABLE} or a set in it is missing"
                hint = "another program changed the firewall; a running throttled restores it"
            elif refused.errno == errno.EPERM:
                hint = "run as root or with CAP_NET_ADMIN"
            raise BackendError(what, hint) from refused


def _verbs(items: Sequence[Item]) -> Iterator[tuple[Verb, list[bytes]]]:
    """Yield what is to be done, in order, and with which elements."""
    wanted = [packed for entry, packed in items if entry.seconds > 0]
    unwanted = [packed for entry, packed in items if entry.seconds <= 0]
    renewed = [] if _RENEWS else wanted
    yield messages.add, unwanted + wanted
    if unwanted or renewed:
        yield messages.delete, unwanted + renewed
    if renewed:
        yield messages.add, renewed


def _found(answers: Iterable[Message]) -> Iterator[Message]:
    """Leave out the answers that say that there is no such thing.

    Raises:
        OSError: any other refusal.
    """
    for answer in answers:
        if answer.kind != ERROR:
            yield answer
        elif (number := error(answer)) not in (0, errno.ENOENT):
            raise OSError(number, os.strerror(number))


def _elements_of(of: SetId, elements: Iterable[NftElement]) -> Iterator[Element]:
    rate = read(of.rate)
    for key, milliseconds, packets in elements:
        yield Element(of.subject(key), of.scope, of.action, milliseconds / 1000, packets, rate)
