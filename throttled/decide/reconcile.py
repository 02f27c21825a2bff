"""What the kernel should hold against what it does hold. Pure."""

from collections.abc import Iterable, Sequence

from throttled.model import Entry, Seen

#: An element whose time left differs by less is the same: both clocks tick between two looks.
_SLACK = 5.0


def missing(desired: Sequence[Entry], held: Iterable[Seen]) -> list[Entry]:
    """Return the entries that the kernel does not hold, or holds with another end.

    Args:
        desired: what should be in force.
        held: what the kernel answered about these very subjects.
    """
    left = {(seen.subject, seen.scope, seen.action): seen.seconds for seen in held}
    return [
        entry
        for entry in desired
        if abs(left.get((entry.subject, entry.scope, entry.action), -_SLACK) - entry.seconds)
        > _SLACK
    ]
