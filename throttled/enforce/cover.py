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
        self._members: dict[int, set[bytes]] = {}
        for network in networks:
            packed, prefix = address.parse(network)
            # IPv4 and IPv6 share this table: their packed lengths differ, so keys cannot meet.
            self._members.setdefault(prefix, set()).add(packed)

    def __contains__(self, subject: str) -> bool:
        """Return whether an address, or a network as a whole, lies in one of them."""
        if not self._members or not address.is_subject(subject):
            return False
        packed, length = address.parse(subject)
        return any(
            prefix <= length and address.mask(packed, prefix) in members
            for prefix, members in self._members.items()
            if prefix <= len(packed) * 8
        )
