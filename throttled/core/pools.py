"""Pools: /64 networks of IPv6 whose addresses are all known good in a scope. No I/O.

Large providers send from hundreds of addresses of one /64, most of which never deliver mail on two
days. A /64 is one site, so all of it is known good once two of its addresses are by themselves. It
is not while it, or an address in it, is throttled or banned. Prefixes that embed unrelated IPv4
clients are no pools.

Owns how many addresses of each /64 are known good, and until when it is none.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from throttled import address

#: Addresses of a network that are known good before all of it is.
ENOUGH = 2
#: Pools; more are none. Each means has room for as many networks, and for protected ones.
MOST = 2_000
_BYTES = 8  # of a /64


class Pools:
    """Those of one scope.

    What changes them returns which networks became pools (true) and are none any more (false).
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._good: dict[str, int] = {}
        self._barred: dict[str, float] = {}  # wall clock, until when
        self._pools: dict[str, bytes] = {}
        self._packed: set[bytes] = set()

    def __contains__(self, packed: bytes) -> bool:
        """Return whether a packed address is in a pool."""
        return len(packed) > _BYTES and packed[:_BYTES] in self._packed

    def __iter__(self) -> Iterator[str]:
        """Yield all pools."""
        return iter(self._pools)

    def count(self, members: Iterable[bytes]) -> Counter[str]:
        """Return how many of some packed addresses, each in a pool, are in which."""
        begins = Counter(packed[:_BYTES] for packed in members)
        every = {address.text(b + bytes(_BYTES), _BYTES * 8): n for b, n in begins.items()}
        return Counter(every)

    def put(self, client: str, *, good: bool) -> Mapping[str, bool]:
        """Learn that an address is known good by itself now, or is no longer."""
        network = _pool(client)
        if not network:
            return {}
        count = self._good.pop(network, 0) + (1 if good else -1)
        if count > 0:
            self._good[network] = count
        return self._settle(network)

    def bar(self, subject: str, until: float) -> Mapping[str, bool]:
        """Learn that a /64 or an address in it is throttled or banned until then."""
        network = _pool(subject)
        if network not in self._good:
            return {}
        self._barred[network] = max(until, self._barred.get(network, 0.0))
        return self._settle(network)

    def unbar(self, subject: str) -> Mapping[str, bool]:
        """Learn that it is no longer."""
        network = _pool(subject)
        self._barred.pop(network, None)
        return self._settle(network)

    def tick(self, wall: float) -> Mapping[str, bool]:
        """Learn what time it is."""
        changes: dict[str, bool] = {}
        for network in [each for each, until in self._barred.items() if until <= wall]:
            del self._barred[network]
            changes |= self._settle(network)
        return changes

    def _settle(self, network: str) -> Mapping[str, bool]:
        pool = self._good.get(network, 0) >= ENOUGH and network not in self._barred
        if pool == (network in self._pools) or (pool and len(self._pools) >= MOST):
            return {}
        if pool:
            self._pools[network] = address.parse(network)[0][:_BYTES]
            self._packed.add(self._pools[network])
        else:
            self._packed.discard(self._pools.pop(network))
        return {network: pool}


def _pool(subject: str) -> str:
    """Return the /64 that an address is in, or that the subject is; "" where there is none."""
    network = subject if address.is_network(subject) else address.network_of(subject)
    return network if network and address.parse(network)[1] == _BYTES * 8 else ""
