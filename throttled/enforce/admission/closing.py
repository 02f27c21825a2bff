"""What means without a counter of their own share: they close the ports to strangers.

Closed while the connections that inet_diag finds (`correct`) are as many as the cap. Owns the
limits, the known networks and the latest number of connections; all else is the kernel's.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import replace

from throttled import address
from throttled.enforce import sockets
from throttled.enforce.admission.protocol import LEASE, AdmissionLimits
from throttled.errors import BackendError

#: Seconds for which ports stay closed to strangers without another count.
CLOSED = 10.0


class Closing(ABC):
    """The ports of one scope; see `Admission`."""

    exact = False

    def __init__(self, lease: float = LEASE) -> None:
        """Do nothing yet.

        Args:
            lease: seconds after `renew` from which everybody is admitted.
        """
        self._lease = lease
        self._ports: tuple[int, ...] = ()
        self._limits = AdmissionLimits(0)
        self._ruled: AdmissionLimits | None = None  # what the rules are for
        self._networks: set[str] = set()
        self._open = 0

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Make everything anew; packets are judged when all is in place."""
        self.stop()
        self._ports = tuple(sorted(ports))
        try:
            self._make()
            addresses, networks = split(known)
            self._add(addresses)
            self._renetwork(networks)
            self.limit(limits)
            self.correct(strangers(self._ports, addresses, networks))
            self._activate()
        except BaseException:
            self.stop()
            raise

    def limit(self, limits: AdmissionLimits) -> None:
        """Replace the rules, if they change; sets and counters stay.

        Each time the pace begins anew, so not for what rules do not say: how many places there are
        changes with each look.
        """
        ruled = replace(limits, places=0)
        if ruled != self._ruled:
            self._put_rules(limits)
            self._ruled = ruled
        self._limits = limits
        self._close(closed=self._full)

    def add_known(self, subjects: Iterable[str]) -> None:
        """Add to the sets."""
        addresses, networks = split(subjects)
        self._add(addresses)
        self._renetwork(self._networks | networks)

    def remove_known(self, subjects: Iterable[str]) -> None:
        """Remove from them."""
        addresses, networks = split(subjects)
        self._delete(addresses)
        self._renetwork(self._networks - networks)

    def correct(self, open: int) -> None:  # noqa: A002 - the name of the level
        """Close the ports to strangers, or open them."""
        self._open = open
        self._close(closed=self._full)

    def postpone(self, clients: Iterable[bytes], seconds: float) -> None:  # noqa: B027 - see there
        """Do nothing."""

    def delayed_networks(self, most: int) -> list[tuple[str, int]]:  # noqa: ARG002 - none
        """Return nothing: they are not counted."""
        return []

    def leave(self) -> None:
        """Remove everything."""
        self.stop()

    def stop(self) -> None:
        """Remove everything."""
        if self._ports:
            self._remove()
        self._ports, self._networks, self._open, self._ruled = (), set(), 0, None

    @property
    def _started(self) -> tuple[int, ...]:
        """The ports.

        Raises:
            BackendError: there are none yet.
        """
        if not self._ports:
            raise BackendError("admission control was not started")
        return self._ports

    @property
    def _full(self) -> bool:
        return self._open >= self._limits.most

    @abstractmethod
    def _make(self) -> None:
        """Make sets and counters, whatever was there before."""

    @abstractmethod
    def _activate(self) -> None:
        """Have packets judged from now on."""

    @abstractmethod
    def _put_rules(self, limits: AdmissionLimits) -> None: ...

    @abstractmethod
    def _close(self, *, closed: bool) -> None:
        """Close the ports for `CLOSED` seconds, or open them."""

    @abstractmethod
    def _add(self, addresses: Iterable[str]) -> None:
        """Add known addresses; those that find no room are logged."""

    @abstractmethod
    def _delete(self, addresses: Iterable[str]) -> None: ...

    @abstractmethod
    def _renetwork(self, networks: set[str]) -> None:
        """Make these the known networks."""

    @abstractmethod
    def _remove(self) -> None:
        """Remove every trace from the kernel."""


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
