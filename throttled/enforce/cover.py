"""Networks, and whether an address lies in one of them: a look-up for each prefix length. Pure."""

from collections.abc import Iterable

from throttled import address


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

    def __contains__(self, subject: str) -> bool:
        """Return whether an address, or a network as a whole, lies in one of them."""
        if not self._members or not address.is_subject(subject):
            return False
        return address.covering(self._members, subject) is not None
