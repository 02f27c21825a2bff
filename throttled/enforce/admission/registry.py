"""All means of admission control, by name. Owns no state."""

from collections.abc import Callable, Mapping, Sequence

from throttled.enforce.admission import iptables, nftables
from throttled.enforce.admission.bpf import Bpf
from throttled.enforce.admission.iptables import Iptables
from throttled.enforce.admission.memory import Memory
from throttled.enforce.admission.nftables import Nftables
from throttled.enforce.admission.protocol import LEASE, Admission

#: Those that drop packets, the best first; each takes the seconds of its lease.
MEANS: Mapping[str, Callable[[float], Admission]] = {
    "bpf": Bpf,
    "nftables": Nftables,
    "iptables": Iptables,
}

#: What removes all that outlives a process, by the backend that uses the same interface.
PURGES: Mapping[str, Callable[[], None]] = {
    "nftables": nftables.purge,
    "iptables": iptables.purge,
}


def choose(observing: bool) -> Sequence[Admission]:  # noqa: FBT001 - one argument for its callers
    """Return means of admission control in the order in which they are to be tried.

    Args:
        observing: nothing may be put into the kernel.
    """
    if observing:
        return [Memory()]
    return [make(LEASE) for make in MEANS.values()]
