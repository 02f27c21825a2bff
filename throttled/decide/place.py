"""Whether an address is in some networks. Pure; owns the addresses that were asked for.

Limits: `_ADDRESSES`; at the cap all are evicted.
"""

from collections.abc import Iterable

from throttled.address import contains, is_subject, pack, parse

_ADDRESSES = 20_000


class Place:
    """Networks; the addresses that were looked up are remembered."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [parse(network) for network in networks]
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _ADDRESSES:
                self._known.clear()
            packed = pack(address) if is_subject(address) else b""
            known = any(contains(network, packed) for network in self._networks)
            self._known[address] = known
        return known
