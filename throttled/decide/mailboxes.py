"""Which mailboxes mail for an address is delivered to, learnt from deliveries. Pure.

A client names `info@example.test`, and local(8) or virtual(8) deliver to `alice@example.test`: an
alias, a catch-all, another case. What mailboxes receive is counted as delivered, so who asks about
a recipient needs the way from the one to the other.

Owns the table: at most `_ADDRESSES`, each for a day after its latest delivery; it is empty while
nobody asks (`enabled`).
"""

from throttled import subjects
from throttled.decide.tables import Generations
from throttled.model import Event, Message

_ADDRESSES = 50_000
_DAY = 86400.0
#: What delivers to mailboxes that are counted; pipe(8) does so by some transports.
_AGENTS = "local", "virtual", "lmtp"
#: Of an address that goes to more mailboxes (a list) it is only known that there are others.
_EACH = 8
#: Reachable whatever happens (RFC 5321, 4.5.1).
_POSTMASTER = "mailbox:postmaster"

#: A mailbox and its domain, as subjects; without the domain where it has none.
Target = tuple[str, ...]


class Mailboxes:
    """The mailboxes behind addresses."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.enabled = False
        self.delimiters = ""  # of extensions; see `subjects.without_extension`
        self.pipes: frozenset[str] = frozenset()  # see `Facts.pipes`
        self._known: Generations[str, tuple[str, ...]] = Generations(_DAY, _ADDRESSES)

    def learn(self, event: Event, message: Message) -> str:
        """Learn where an address leads to, by a delivery or by one that was tried.

        Args:
            event: by what, and when.
            message: with the recipient, and what it was before it was rewritten.

        Returns:
            The mailbox, as a subject; "" where the delivery is to none that is counted.
        """
        pipe = event.process == "pipe" and message.relay in self.pipes
        here = pipe or event.process in _AGENTS
        if here and message.following:
            return ""  # of a filter: the next queue id says where it goes
        named = subjects.mailbox(subjects.from_log(message.recipient)) if here else ""
        mailbox = subjects.without_extension(named, self.delimiters)
        original = message.original
        asked = subjects.mailbox(subjects.from_log(original)) if original else mailbox
        # Any number of names that nobody has may be refused here.
        if self.enabled and asked and (original or message.status == "sent"):
            self._put(asked, mailbox, event.time)
        return mailbox

    def targets(self, recipient: str) -> tuple[Target, list[Target]]:
        """Return what an address is itself, and what mail for it was delivered to.

        Args:
            recipient: as the client wrote it, a character for each byte.

        Returns:
            Its mailbox and domain, nothing of a postmaster; those behind it, none if not known. An
            address with an extension leads where it does without, if nothing else is known.
            One without names is of mailboxes elsewhere, or that are not listed.
        """
        mailbox = subjects.mailbox(subjects.from_log(recipient))
        if mailbox.partition("@")[0] == _POSTMASTER:
            return (), []
        behind = self._known.get(mailbox)
        if behind is None:
            whole = subjects.without_extension(mailbox, self.delimiters)
            behind = self._known.get(whole) or ((whole,) if whole != mailbox else ())
        return _target(mailbox), [_target(one) for one in behind]

    def _put(self, asked: str, mailbox: str, at: float) -> None:
        known = self._known.get(asked) or ()
        if mailbox not in known:
            known = (*known, mailbox if len(known) < _EACH else "")
        self._known.put(asked, known[: _EACH + 1], at)

    def clear(self) -> None:
        """Evict everything."""
        self._known.clear()


def _target(mailbox: str) -> Target:
    domain = subjects.domain(mailbox)
    return (mailbox, domain) if domain else (mailbox,) if mailbox else ()
