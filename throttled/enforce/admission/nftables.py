"""Admission control by nftables: where no BPF program can be attached.

See `nft_rules`. It cannot count: when the daemon finds as many connections open as the cap
(`correct`), the ports are closed to strangers until it finds fewer; between two looks the pace lets
some more in. Newcomers in a flood of forged SYNs get in when their kernels repeat the SYN. Networks
are not counted, nor are those that are delayed known.

State is the kernel's, in a table for these ports, but for what `Closing` owns.
"""

import logging
from collections.abc import Iterable
from functools import cached_property
from itertools import islice

from throttled.enforce.admission import nft_rules
from throttled.enforce.admission.closing import CLOSED, Closing
from throttled.enforce.admission.protocol import AdmissionCounts, AdmissionLimits
from throttled.enforce.nftables import messages
from throttled.enforce.nftables.libnftables import Libnftables
from throttled.errors import BackendError
from throttled.linux.netlink_socket import Netlink, netfilter

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


class Nftables(Closing):
    """The table of one scope."""

    name = "nftables"

    def renew(self) -> None:
        """Go on; a table that another program removed is an error: `start` makes it again."""
        self._libnftables.run(nft_rules.renew(self._table, "lease", self._ports, self._lease))

    def counts(self) -> AdmissionCounts:
        """Read the counters; asked four times a second, so not by libnftables: 1 ms or more."""
        question = messages.dump_counters(self._table)
        try:
            found = dict(map(messages.counter_of, self._netlink.dump(question)))
        except OSError as refused:
            self.__dict__.pop("_netlink", None)  # it may have unread answers
            raise BackendError(f"the kernel refused: {refused.strerror}") from refused
        if not found:
            raise BackendError(f"the table inet {self._table} is missing")
        return AdmissionCounts(open=self._open, **found)

    @cached_property
    def _netlink(self) -> Netlink:
        return netfilter()

    @cached_property
    def _libnftables(self) -> Libnftables:
        return Libnftables()

    @property
    def _table(self) -> str:
        return nft_rules.table(self._started)

    def _make(self) -> None:
        self._libnftables.run(nft_rules.create(self._table))

    def _activate(self) -> None:
        self.renew()

    def _put_rules(self, limits: AdmissionLimits) -> None:
        self._libnftables.run(nft_rules.rules(self._table, limits))

    def _close(self, *, closed: bool) -> None:
        seconds = CLOSED if closed else 0
        self._libnftables.run(nft_rules.renew(self._table, "closed", self._ports, seconds))

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

    def _delete(self, addresses: Iterable[str]) -> None:
        table, waiting = self._table, iter(addresses)
        while some := list(islice(waiting, _TOGETHER)):
            self._libnftables.run(nft_rules.known(table, some, add=False))

    def _renetwork(self, networks: set[str]) -> None:
        """Write the intervals anew, if they change."""
        if networks != self._networks:
            self._libnftables.run(nft_rules.networks(self._table, networks))
            self._networks = networks

    def _remove(self) -> None:
        self._libnftables.run(nft_rules.remove(self._table))
