"""Admission control by nftables: where no BPF program can be attached.

See `nft_rules`. It cannot count: when the daemon finds as many connections open as the cap
(`correct`), the ports are closed to strangers until it finds fewer; between two looks the pace lets
some more in. Newcomers in a flood of forged SYNs get in when their kernels repeat the SYN. Networks
are not counted, nor are those that are delayed known.

State is the kernel's, in a table for these ports. Kept here are the limits, the known networks and
the latest number of connections.
"""

import logging
from collections.abc import Iterable
from functools import cached_property
from itertools import islice

from throttled.enforce.admission import nft_rules
from throttled.enforce.admission.closing import CLOSED, split, strangers
from throttled.enforce.admission.protocol import LEASE, AdmissionCounts, AdmissionLimits
from throttled.enforce.nftables.libnftables import Libnftables
from throttled.errors import BackendError

log = logging.getLogger(__name__)

#: Addresses that are added in one transaction.
_TOGETHER = 10_000


def purge() -> None:
    """Remove every table of admission control, whichever process made it.

    Raises:
        BackendError: that failed.
    """
    nft = Libnftables()
    for name in nft_rules.ours(nft.run("list tables inet")):
        nft.run(nft_rules.remove(name))


class Nftables:
    """The table of one scope."""

    name = "nftables"
    exact = False

    def __init__(self, lease: float = LEASE) -> None:
        """Do nothing yet.

        Args:
            lease: seconds after `renew` from which everybody is admitted.
        """
        self._lease = lease
        self._ports: tuple[int, ...] = ()
        self._limits = AdmissionLimits(0)
        self._networks: set[str] = set()
        self._open = 0

    @cached_property
    def _libnftables(self) -> Libnftables:
        return Libnftables()

    @property
    def _table(self) -> str:
        if not self._ports:
            raise BackendError("admission control was not started")
        return nft_rules.table(self._ports)

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Make the table anew; the ports are judged when everything is in it."""
        self.stop()
        self._ports = tuple(sorted(ports))
        try:
            self._libnftables.run(nft_rules.create(self._table))
            addresses, self._networks = split(known)
            self._add(addresses)
            self._libnftables.run(nft_rules.networks(self._table, self._networks))
            self.limit(limits)
            self.correct(strangers(self._ports, addresses, self._networks))
            self.renew()
        except BaseException:
            self.stop()
            raise

    def limit(self, limits: AdmissionLimits) -> None:
        """Replace the rules; sets and counters stay."""
        self._libnftables.run(nft_rules.rules(self._table, limits))
        self._limits = limits
        self._close()

    def renew(self) -> None:
        """Go on; a table that another program removed is an error: `start` makes it again."""
        self._libnftables.run(nft_rules.renew(self._table, "lease", self._ports, self._lease))

    def add_known(self, subjects: Iterable[str]) -> None:
        """Add addresses to the hash sets; the intervals are written anew if networks come."""
        addresses, networks = split(subjects)
        self._add(addresses)
        self._renetwork(self._networks | networks)

    def remove_known(self, subjects: Iterable[str]) -> None:
        """Remove them likewise."""
        addresses, networks = split(subjects)
        table, waiting = self._table, iter(addresses)
        while some := list(islice(waiting, _TOGETHER)):
            self._libnftables.run(nft_rules.known(table, some, add=False))
        self._renetwork(self._networks - networks)

    def counts(self) -> AdmissionCounts:
        """Read the counters."""
        listed = self._libnftables.run(f"list counters table inet {self._table}")
        return AdmissionCounts(open=self._open, **nft_rules.counters(listed))

    def correct(self, open: int) -> None:  # noqa: A002 - the name of the level
        """Close the ports to strangers, or open them."""
        self._open = open
        self._close()

    def delayed_networks(self, most: int) -> list[tuple[str, int]]:  # noqa: ARG002 - none
        """Return nothing: they are not counted."""
        return []

    def stop(self) -> None:
        """Remove the table."""
        if self._ports:
            self._libnftables.run(nft_rules.remove(self._table))
        self._ports, self._networks, self._open = (), set(), 0

    def _close(self) -> None:
        seconds = CLOSED if self._open >= self._limits.cap else 0
        self._libnftables.run(nft_rules.renew(self._table, "closed", self._ports, seconds))

    def _renetwork(self, networks: set[str]) -> None:
        if networks != self._networks:
            self._libnftables.run(nft_rules.networks(self._table, networks))
            self._networks = networks

    def _add(self, addresses: Iterable[str]) -> None:
        table, waiting = self._table, iter(addresses)
        while some := list(islice(waiting, _TOGETHER)):
            try:
                self._libnftables.run(nft_rules.known(table, some, add=True))
            except BackendError as error:
                if "Too many open files in system" not in error.message:  # ENFILE: the set is full
                    raise
                log.warning(
                    "no room for %d known clients: they are treated as strangers", len(some)
                )
