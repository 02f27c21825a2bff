"""What subjects did, as it is counted. Pure; owns no state."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from throttled.limits import Used
from throttled.model import Message

Counted = Literal[Used, "connections"]


class Use(NamedTuple):
    """What a subject did."""

    subject: str
    counted: Counted
    amount: int
    name: str = ""  # `networks`: which


def uses_of(owners: Iterable[str], message: Message, counted: Iterable[Counted]) -> tuple[Use, ...]:
    """Return what a message counts for its owners: "" is nobody."""
    amounts = {"messages": 1, "recipients": message.recipients, "bytes": message.size}
    return tuple(Use(s, each, amounts[each]) for s in owners if s for each in counted)
