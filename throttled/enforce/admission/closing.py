"""For means without a counter of their own: the connections that inet_diag finds."""

from collections.abc import Collection, Iterable

from throttled import address
from throttled.enforce import sockets

#: Seconds for which ports stay closed to strangers without another count.
CLOSED = 10.0


def split(subjects: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return which subjects are addresses, and which are networks, as canonical text.

    Raises:
        ValueError: one is neither.
    """
    found = list(map(address.subject, subjects))
    networks = {each for each in found if address.is_network(each)}
    return [each for each in found if each not in networks], networks


def strangers(ports: Collection[int], addresses: Iterable[str], networks: Iterable[str]) -> int:
    """Return how many connections to ports are open of clients that are not known."""
    known, around = set(addresses), [address.parse(each) for each in networks]
    return sum(
        address.unpack(each.far) not in known
        and not any(address.contains(network, each.far) for network in around)
        for each in sockets.opened(ports)
    )
