"""The firewall and the policy answers as one backend: each entry goes to the one for its subject.

Names (`account:alice`) and addresses within mynetworks are answered to Postfix: the kernel cannot
slow the first, and slows the second only at the price of lost mail. All other addresses and
networks are the firewall's; where clients come by a proxy, the answers get a copy of these.

Owns nothing: state is the firewall's and the answers'.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from throttled import address
from throttled.enforce.answers import PolicyAnswers
from throttled.enforce.backend import Applied, Backend, Fill, Ruleset, RulesWatch
from throttled.enforce.cover import Cover
from throttled.model import Element, Entry, Finding


class Dispatch:
    """A firewall with policy answers beside it."""

    enforces = True

    def __init__(self, firewall: Backend) -> None:
        """Touch nothing yet.

        Args:
            firewall: a backend of the kernel.
        """
        self.firewall = firewall
        self.name, self.at_interfaces = firewall.name, firewall.at_interfaces
        #: Entries of accounts, other names and inside hosts.
        self.senders = PolicyAnswers()
        #: A copy of the firewall's entries, while clients come by a proxy.
        self.clients = PolicyAnswers()
        self._inside = self._apart = Cover()
        self._proxied = False

    @property
    def refuses(self) -> bool:
        """Whether the firewall can refuse."""
        return self.firewall.refuses

    def check(self) -> list[Finding]:
        """Say whether the firewall can work here."""
        return self.firewall.check()

    def setup(self, ruleset: Ruleset) -> bool:
        """Put the static rules in place; elements stay."""
        answers = ruleset.answers
        self._inside, self._apart = Cover(answers.inside), Cover(answers.apart)
        self._proxied = answers.proxied
        self.senders.setup(ruleset)
        if not self._proxied:
            self.clients.teardown()
        self.clients.setup(ruleset)
        return self.firewall.setup(ruleset)

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch: the answers first, which cannot fail."""
        senders, clients = self._split(entries)
        answered = self.senders.apply(senders) if senders else Applied()
        if not clients:
            return answered
        copied = self.clients.apply(clients) if self._proxied else Applied()
        applied = self.firewall.apply(clients)
        failed = dict((*copied.failed, *applied.failed))  # of what both refuse the firewall's words
        full = answered.full | copied.full | applied.full
        return Applied((*answered.failed, *failed.items()), full)

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that there are; with a proxy: in both places."""
        senders, clients = self._split(entries)
        found = self.firewall.lookup(clients) if clients else []
        if self._proxied:
            copied = {(s.subject, s.scope, s.action) for s in self.clients.lookup(clients)}
            found = [s for s in found if (s.subject, s.scope, s.action) in copied]
        return [*self.senders.lookup(senders), *found]

    def dump(self) -> Iterator[Element]:
        """Yield every element."""
        return chain(self.senders.dump(), self.firewall.dump())

    def dropped(self) -> int:
        """Return the packets that the firewall dropped."""
        return self.firewall.dropped()

    def collect(self) -> None:
        """Let the firewall give back what has expired."""
        self.firewall.collect()

    def intact(self) -> bool:
        """Return whether the firewall's rules stand."""
        return self.firewall.intact()

    def fill(self) -> list[Fill]:
        """Return how full each set is; empty where the kernel does not count."""
        found = self.firewall.fill()
        return [*found, *self.senders.fill()] if found else []

    def watch(self) -> RulesWatch | None:
        """Subscribe to changes that other programs make to the firewall."""
        return self.firewall.watch()

    def present(self) -> bool:
        """Return whether the kernel has rules of throttled."""
        return self.firewall.present()

    def teardown(self) -> None:
        """Remove everything."""
        self.senders.teardown()
        self.clients.teardown()
        self.firewall.teardown()

    def _split(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Return the entries that are answers alone, and the firewall's."""
        senders: list[Entry] = []
        clients: list[Entry] = []
        for entry in entries:
            (senders if self.sends(entry.subject) else clients).append(entry)
        return senders, clients

    def sends(self, subject: str) -> bool:
        """Return whether entries of a subject are answers alone: accounts and inside hosts."""
        kind = address.kind(subject)
        if kind == "address":
            return subject in self._inside and subject not in self._apart
        return kind != "network"
