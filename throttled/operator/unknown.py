"""Refusing names that an operator mistyped, of limits, hosts and lists. Owns no state."""

import difflib
from collections.abc import Iterable, Sequence

from throttled.errors import RefusedError, UsageError

#: What stands in the place of a limit's name where none led to a decision.
OTHER_LIMITS = ("network", "guessing", "operator", "ladder", "adopted")


def refuse_unknown_limit(name: str, configured: Iterable[str]) -> None:
    """Refuse the name of a limit that there is not.

    Args:
        name: as an operator wrote it.
        configured: the limits of the configuration.

    Raises:
        UsageError: names the one that may be meant, and those that there are.
    """
    known = [*sorted(configured), *OTHER_LIMITS]
    if name not in known:
        raise UsageError(f"no such limit: {name}", _hint(name, known, "limits"))


def refuse_unknown_peer(name: str, peers: Iterable[str]) -> None:
    """Refuse the name of a host that the fleet does not have.

    Args:
        name: as an operator wrote it.
        peers: the hosts that this one knows.

    Raises:
        RefusedError: names the one that may be meant, and those that there are.
    """
    known = sorted(peers)
    if name not in known:
        hint = _hint(name, known, "known", "none yet")
        raise RefusedError(f"no host {name} is known in the fleet", hint)


def refuse_unknown_list(name: str, lists: Iterable[str]) -> None:
    """Refuse the name of a list that nothing is active from.

    Args:
        name: as an operator wrote it.
        lists: those that name what is active.

    Raises:
        RefusedError: names the one that may be meant, and those that there are.
    """
    known = sorted(lists)
    if name not in known:
        raise RefusedError(f"nothing is active from a list {name}", _hint(name, known, "lists"))


def _hint(name: str, known: Sequence[str], what: str, none: str = "none") -> str:
    """Name the one that may be meant, and those that there are."""
    close = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}{what}: {', '.join(known) or none}"
