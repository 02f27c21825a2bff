"""Which mailboxes mail for an address is delivered to, learnt from deliveries. Pure.

A client names `info@example.test`, and local(8) or virtual(8) deliver to `alice@example.test`: an
alias, a catch-all, another case. What mailboxes receive is counted as delivered, so who asks about
a recipient needs the way from the one to the other.

Owns the table: at most `_ADDRESSES`, each for a day after its latest delivery; it is empty while
nobody asks (`enabled`).
"""

from throttled import subjects
from throttled.decide.tables import Generations
from throttled.model import Message

_ADDRESSES = 50_000
_DAY = 86400.0
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
        self._known: Generations[str, tuple[str, ...]] = Generations(_DAY, _ADDRESSES)

    def learn(self, message: Message, mailbox: str, at: float) -> None:
        """Learn of a delivery.

        Args:
            message: with the recipient, and what it was before it was rewritten.
            mailbox: subject of the recipient.
            at: when; seconds.
        """
        if not self.enabled:
            return
        original = message.original
        asked = subjects.mailbox(subjects.from_log(original)) if original else mailbox
        known = self._known.get(asked) or ()
        if mailbox not in known:
            known = (*known, mailbox if len(known) < _EACH else "")
        self._known.put(asked, known[: _EACH + 1], at)

    def targets(self, recipient: str) -> tuple[Target, list[Target]]:
        """Return what an address is itself, and what mail for it was delivered to.

        Args:
            recipient: as the client wrote it, a character for each byte.

        Returns:
            Its mailbox and domain, nothing of a postmaster; those behind it, none if not known.
            One without names is of mailboxes that are not listed.
        """
        mailbox = subjects.mailbox(subjects.from_log(recipient))
        if mailbox.partition("@")[0] == _POSTMASTER:
            return (), []
        return _target(mailbox), [_target(one) for one in self._known.get(mailbox) or ()]

    def clear(self) -> None:
        """Evict everything."""
        self._known.clear()


def _target(mailbox: str) -> Target:
    domain = subjects.domain(mailbox)
    return (mailbox, domain) if domain else (mailbox,) if mailbox else ()
