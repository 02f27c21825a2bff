"""Admission control by iptables: where neither BPF nor nftables can be used.

See `ipset_rules`, and `nftables` for what it cannot do. Each IP version has a pace of its own.

State is the kernel's, in chains of the legacy tables `raw` and ipsets, but for what `Closing` owns.
"""

import logging
import math
from collections.abc import Iterable

from throttled.enforce.admission import ipset_rules
from throttled.enforce.admission.closing import CLOSED, Closing
from throttled.enforce.admission.ipset_rules import VERSIONS
from throttled.enforce.admission.protocol import LEASE, AdmissionCounts, AdmissionLimits
from throttled.enforce.iptables import tables
from throttled.enforce.iptables.ipsets import Ipsets
from throttled.errors import BackendError

log = logging.getLogger(__name__)


def purge() -> None:
    """Remove all chains and sets of admission control, whichever process made them.

    Raises:
        BackendError: that failed.
    """
    ipsets = Ipsets()
    names = ipsets.names()
    listed = {v: tables.listed(v) for v in VERSIONS if tables.exists(v)}
    chains = [line.split()[1] for lines in listed.values() for line in lines if line[:2] == "-N"]
    for begin in ipset_rules.begins([*names, *chains]):
        for version, lines in listed.items():
            if removal := ipset_rules.remove(begin, lines):
                tables.restore(version, removal)
        for name in names:
            if ipset_rules.begins([name]) == {begin}:
                ipsets.destroy(name)


class Iptables(Closing):
    """The chains and sets of one scope."""

    name = "iptables"

    def __init__(self, lease: float = LEASE) -> None:
        """Do nothing yet; see `Closing`."""
        super().__init__(lease)
        self._ipsets = Ipsets()

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Make sets and chains anew; packets come to them when everything is in place."""
        if tables.variant() == "nf_tables":
            raise BackendError(
                "this host's iptables is the nft variant", "nftables works beside it"
            )
        super().start(ports, limits, known)

    def renew(self) -> None:
        """Go on; sets that another program removed are an error: `start` makes them again."""
        self._everybody("fill", "lease")

    def counts(self) -> AdmissionCounts:
        """Read the sets that count."""
        found = {
            field: sum(
                self._ipsets.packets(ipset_rules.set_name(self._begin, which, version))
                for version in VERSIONS
            )
            for field, which in ipset_rules.COUNTED.items()
        }
        return AdmissionCounts(open=self._open, **found)

    @property
    def _begin(self) -> str:
        return ipset_rules.base(self._started)

    def _make(self) -> None:
        self._remove()
        for each in ipset_rules.ipsets(self._begin, math.ceil(self._lease), math.ceil(CLOSED)):
            self._ipsets.make(*each)
        self._everybody("fill", *ipset_rules.COUNTED.values())

    def _activate(self) -> None:
        self.renew()
        hooks = ipset_rules.hooks(self._begin, self._ports)
        for version in VERSIONS:
            tables.restore(version, ipset_rules.hook(hooks))

    def _put_rules(self, limits: AdmissionLimits) -> None:
        for version in VERSIONS:
            tables.restore(version, ipset_rules.rules(self._begin, limits, version))

    def _close(self, *, closed: bool) -> None:
        self._everybody("fill" if closed else "clear", "closed")

    def _everybody(self, verb: str, *which: str) -> None:
        act = self._ipsets.fill if verb == "fill" else self._ipsets.clear
        for version in VERSIONS:
            for each in which:
                name = ipset_rules.set_name(self._begin, each, version)
                act(name, ipset_rules.everybody(version))

    def _add(self, addresses: Iterable[str]) -> None:
        addresses = list(addresses)
        for version in VERSIONS:
            self._fill("known", version, ipset_rules.elements(addresses, version))

    def _delete(self, addresses: Iterable[str]) -> None:
        addresses = list(addresses)
        for version in VERSIONS:
            name = ipset_rules.set_name(self._begin, "known", version)
            self._ipsets.clear(name, ipset_rules.elements(addresses, version))

    def _fill(self, which: str, version: int, elements: list[tuple[bytes, int]]) -> None:
        try:
            self._ipsets.fill(ipset_rules.set_name(self._begin, which, version), elements)
        except BackendError as error:
            if "full" not in error.message:
                raise
            log.warning("no room for all known clients: some are treated as strangers")

    def _renetwork(self, networks: set[str]) -> None:
        for version in VERSIONS:
            name = ipset_rules.set_name(self._begin, "networks", version)
            gone = ipset_rules.networks(self._networks - networks, version)
            self._ipsets.clear(name, gone)
            self._fill(
                "networks", version, ipset_rules.networks(networks - self._networks, version)
            )
        self._networks = networks

    def _remove(self) -> None:
        for version in filter(tables.exists, VERSIONS):
            if lines := ipset_rules.remove(self._begin, tables.listed(version)):
                tables.restore(version, lines)
        for each in ipset_rules.ipsets(self._begin, 1, 1):
            self._ipsets.destroy(each.name)
