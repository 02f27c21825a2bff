"""Whether a ban of a network by a peer would hit good senders of this host. Owns no state."""

from throttled import address
from throttled.clock import Moment
from throttled.core.recorder import Recorder
from throttled.decide.networks import Key

_MOST = 1_000
_YEARS = 10 * 366 * 86400.0
_BITS = 64  # of the networks by which good IPv6 senders are looked up


def exposed(key: Key, recorder: Recorder, now: Moment) -> bool:
    """Return whether good senders are in a network that cannot be exempted one by one.

    These are all in a network narrower than a /24 or /64, and who is throttled or banned already: a
    hostile peer could first throttle a good sender, and then ban its network.

    Args:
        key: a canonical network, and the scope.
        recorder: what it has and what the store has.
        now: both clocks.

    Raises:
        StoreError: they cannot be read.
    """
    network, scope = key
    if not address.is_network(network):
        return False
    first, beyond = _range(network)
    found = recorder.store.fleet.good(first, beyond, now.wall, _MOST)
    inside = {sender for sender in found if address.inside(sender, network)}
    if not inside:
        return len(found) == _MOST
    return not inside <= set(recorder.senders(network, scope, now.wall + _YEARS, now))


def _range(network: str) -> tuple[str, str]:
    """Return between which names the networks are that lie in one, or in which it lies."""
    packed, prefix = address.parse(network)
    if address.version(network) == 4 or prefix >= _BITS:
        name = address.network_of(address.unpack(packed))
        return name, f"{name}\0"
    groups = [int.from_bytes(packed[at : at + 2]) for at in (0, 2)]
    start = ":".join(f"{group:x}" for group in groups if group)
    return f"{start}:", f"{start};"
