"""Networks, and whether an address lies in one of them: a look-up for each prefix length. Pure.

Owns what was found for the latest addresses, at most `_KNOWN`: policy requests ask again and again.
"""

from collections.abc import Iterable

from throttled import address

_KNOWN = 10_000


class Cover:
    """A group of addresses and networks that does not change."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Collect them.

        Args:
            networks: subjects: addresses and networks.
        """
        self._members: dict[int, dict[bytes, bool]] = {}
        for network in networks:
            packed, prefix = address.parse(network)
            self._members.setdefault(prefix, {})[packed] = True
        self._known: dict[str, bool] = {}

    def __contains__(self, subject: str) -> bool:
        """Return whether an address, or a network as a whole, lies in one of them."""
        if not self._members:
            return False
        known = self._known.get(subject)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            inside = address.is_subject(subject) and address.covering(self._members, subject)
            known = self._known[subject] = bool(inside)
        return known
