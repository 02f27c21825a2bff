"""What the outcome of a delivery says of the sender. Pure, owns no state.

A bounce speaks of the sender where the recipient does not exist (a bad list) or the content or its
sender is refused. A full mailbox, a message that is too large, a loop, a server in trouble does
not. Codes are those of RFC 3463 and IANA's registry of enhanced status codes.
"""

from typing import Literal

from throttled.model import Event

#: Subject and detail of a 5.x.y code; None as the detail stands for each.
_LIST_OR_CONTENT = {
    (1, None),  # address: unknown, moved, wrong syntax
    (2, 1),  # mailbox disabled
    (4, 1),  # Exchange: recipient rejected
    (4, 4),  # the domain does not exist, or takes no mail
    (5, 0),  # Outlook: mailbox unavailable
    (7, None),  # policy, content, reputation
}
#: By codes that say nothing more (5.0.0, or none before Postfix 2.3): the reply code.
_STORAGE = 552


def judge(event: Event) -> Literal["bounces", "deferrals", ""]:
    """Return what a `delivery` counts as; "" where it says nothing of the sender.

    A 4.7.x deferral is a provider's early word on reputation. Other deferrals are trouble on the
    way. With soft_bounce, which is for tests of Postfix's settings, nothing counts.
    """
    message = event.message
    if message is None or forwarded(message.original, message.recipient):
        return ""
    if message.status == "deferred":
        return "deferrals" if message.dsn.startswith("4.7.") else ""
    if message.status != "bounced":
        return ""
    kind, _, detail = message.dsn.removeprefix("5.").partition(".")
    if kind in ("", "0"):
        return "" if event.code == _STORAGE else "bounces"
    if not message.dsn.startswith("5."):
        return ""
    known = (int(kind), None) in _LIST_OR_CONTENT or (int(kind), int(detail)) in _LIST_OR_CONTENT
    return "bounces" if known else ""


def forwarded(original: str, recipient: str) -> bool:
    """Return whether an alias sent a message to another domain than its sender did."""
    if not original:
        return False
    return original.rpartition("@")[2].casefold() != recipient.rpartition("@")[2].casefold()
