"""What the kernel should hold against what it does hold. Pure."""

from collections.abc import Iterable, Sequence

from throttled.model import Element, Entry

#: An element whose time left differs by less is the same: both clocks tick between two checks.
_SLACK = 5.0


def missing(desired: Sequence[Entry], elements: Iterable[Element]) -> list[Entry]:
    """Return the entries that the kernel does not hold, or holds with another end or rate.

    Args:
        desired: what should be active.
        elements: what the kernel answered about these very subjects.
    """
    left = {(s.subject, s.scope, s.action, s.rate): s.seconds for s in elements}
    return [
        e
        for e in desired
        if abs(left.get((e.subject, e.scope, e.action, e.rate), -_SLACK) - e.seconds) > _SLACK
    ]
