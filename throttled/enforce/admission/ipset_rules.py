"""The chains of the legacy tables `raw`, and their ipsets, for admission control. Pure.

    thraPORT   is reached by SYNs to the ports at this host, not by loopback. Known clients are
               passed on; then as in `nft_rules`: closed, the turn of a network, the pace.
    thraPORTr  the second pace, of SYNs that come again from the same address and port.
    thraPORTo  is reached by data that leaves the ports: marks the turn of the network.

Sets that match everybody (the two halves of the address space) say whether the lease has not
expired and the ports are closed, and count: cap, pace, late (had its turn), in (admitted).
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from throttled import address
from throttled.enforce.admission.protocol import KNOWN, AdmissionLimits
from throttled.enforce.iptables.messages import IpsetDefinition, parts
from throttled.enforce.sets import BITS

VERSIONS = (4, 6)
_OURS = re.compile(r"(thra\d+)(?:[ro]|_[a-z]+[46])?")
COUNTED = {
    "dropped_cap": "cap",
    "dropped_pace": "pace",
    "dropped_turn": "late",
    "admitted": "in",
}
_AGAIN = 4  # seconds in which a SYN is expected again: see `nft_rules`
_SEEN, _TURNS, _NETWORKS = 131_072, 65_536, 4096
_LONGEST_TURN = 300
_MASKS = {4: 24, 6: 64}
_OPENS = "--tcp-flags FIN,SYN,RST,ACK SYN"
_DATA = "--tcp-flags SYN,RST,PSH PSH"


class Ipset(NamedTuple):
    """A set to be made."""

    name: str
    definition: IpsetDefinition
    mask: int = 0


def base(ports: Iterable[int]) -> str:
    """Return how the names of chains and sets for some ports begin."""
    return f"thra{min(ports)}"


def begins(names: Iterable[str]) -> set[str]:
    """Return how the names begin of those that are our chains or sets."""
    return {match[1] for match in map(_OURS.fullmatch, names) if match}


def set_name(begin: str, which: str, version: int) -> str:
    """Return the name of a set."""
    return f"{begin}_{which}{version}"


def ipsets(begin: str, lease: int, closed: int) -> Iterator[Ipset]:
    """Yield all sets.

    Args:
        begin: of their names.
        lease: seconds that an element of `lease` lasts.
        closed: seconds that one of `closed` lasts.
    """
    for version in VERSIONS:
        for which, kind, size, timeout, mask in (
            ("known", "hash:ip", 2 * KNOWN, 0, 0),
            ("networks", "hash:net", _NETWORKS, 0, 0),
            ("turn", "hash:ip", _TURNS, _LONGEST_TURN, _MASKS[version]),
            ("seen", "hash:ip,port", _SEEN, _AGAIN, 0),
            ("lease", "hash:net", 64, lease, 0),
            ("closed", "hash:net", 64, closed, 0),
            *((which, "hash:net", 64, 0, 0) for which in COUNTED.values()),
        ):
            definition = IpsetDefinition(kind, version, size, timeout)
            yield Ipset(set_name(begin, which, version), definition, mask)


def everybody(version: int) -> list[tuple[bytes, int]]:
    """Return the two halves of the address space, as elements of a hash:net."""
    return list(parts(bytes(BITS[version] // 8), 0))


def elements(addresses: Iterable[str], version: int) -> list[tuple[bytes, int]]:
    """Return the elements that addresses are, those of a version; the prefix 0 means an address."""
    return [(address.pack(each), 0) for each in addresses if address.version(each) == version]


def networks(subjects: Iterable[str], version: int) -> list[tuple[bytes, int]]:
    """Return the elements that networks are, those of a version."""
    found = (address.parse(each) for each in subjects if address.version(each) == version)
    return [part for packed, prefix in found for part in parts(packed, prefix)]


def rules(begin: str, limits: AdmissionLimits, version: int) -> str:
    """Return the chains for iptables-restore --noflush: they replace what they had."""
    chains = (begin, f"{begin}r", f"{begin}o")
    lines = ["*raw", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [f"-A {begin} {rule}" for rule in _arriving(begin, limits, version)]
    lines += [f"-A {begin}r {rule}" for rule in _paced(begin, limits, version)]
    lines += [f"-A {begin}o {rule}" for rule in _leaving(begin, limits, version)]
    return "\n".join([*lines, "COMMIT", ""])


def hooks(begin: str, ports: Iterable[int]) -> list[str]:
    """Return the rules that lead to the chains, as arguments of -A."""
    local = f"{_OPENS} -m addrtype --dst-type LOCAL"
    found = []
    for port in sorted(ports):
        found.append(f"PREROUTING ! -i lo -p tcp -m tcp --dport {port} {local} -j {begin}")
        found.append(f"OUTPUT ! -o lo -p tcp -m tcp --sport {port} {_DATA} -j {begin}o")
    return found


def hook(rules: Iterable[str], *, remove: Iterable[str] = ()) -> str:
    """Return the input for iptables-restore --noflush that adds hooks, and removes others."""
    lines = [f"-D {rule}" for rule in remove] + [f"-A {rule}" for rule in rules]
    return "\n".join(["*raw", *lines, "COMMIT", ""])


def remove(begin: str, present: Iterable[str]) -> str:
    """Return the input for iptables-restore --noflush that removes all; empty: nothing is there.

    Args:
        begin: how our names begin.
        present: the lines of `iptables -S`.
    """
    chains = (begin, f"{begin}r", f"{begin}o")
    words = [line.split() for line in present]
    leading = [w for w in words if w[:1] == ["-A"] and w[1] not in chains and w[-1] in chains]
    there = [w[1] for w in words if w[:1] == ["-N"] and w[1] in chains]
    if not there and not leading:
        return ""
    lines = [" ".join(["-D", *w[1:]]) for w in leading]
    lines += [f"{verb} {chain}" for verb in ("-F", "-X") for chain in there]
    return "\n".join(["*raw", *lines, "COMMIT", ""])


def _arriving(begin: str, limits: AdmissionLimits, version: int) -> list[str]:
    drop = "DROP" if limits.dropping else "RETURN"
    found = [
        f"-m set ! --match-set {set_name(begin, 'lease', version)} src -j RETURN",
        *_known(begin, version, "src"),
        f"{_in(begin, 'closed', version)} {_in(begin, 'cap', version)} -j {drop}",
    ]
    if limits.turn:
        found.append(f"{_in(begin, 'turn', version)} {_in(begin, 'late', version)} -j {drop}")
    seen = set_name(begin, "seen", version)
    return [
        *found,
        _admit(begin, limits, version),
        f"-m set --match-set {seen} src,src -g {begin}r",
        f"-j SET --add-set {seen} src,src",
        f"-m set --match-set {seen} src,src {_in(begin, 'pace', version)} -j {drop}",
        f"-g {begin}r",  # `seen` is full: nobody is kept out for that
    ]


def _paced(begin: str, limits: AdmissionLimits, version: int) -> list[str]:
    drop = "DROP" if limits.dropping else "RETURN"
    return [_admit(begin, limits, version), f"{_in(begin, 'pace', version)} -j {drop}"]


def _leaving(begin: str, limits: AdmissionLimits, version: int) -> list[str]:
    if not limits.turn:
        return []
    seconds = max(1, min(_LONGEST_TURN, int(limits.turn)))
    return [
        f"-m set ! --match-set {set_name(begin, 'lease', version)} dst -j RETURN",
        *_known(begin, version, "dst"),
        f"-j SET --add-set {set_name(begin, 'turn', version)} dst --timeout {seconds}",
    ]


def _admit(begin: str, limits: AdmissionLimits, version: int) -> str:
    pace = f"-m limit --limit {10 * limits.pace}/sec --limit-burst {limits.pace} "
    return f"{pace if limits.pace else ''}{_in(begin, 'in', version)} -j RETURN"


def _known(begin: str, version: int, end: str) -> list[str]:
    return [
        f"-m set --match-set {set_name(begin, which, version)} {end} -j RETURN"
        for which in ("known", "networks")
    ]


def _in(begin: str, which: str, version: int) -> str:
    return f"-m set --match-set {set_name(begin, which, version)} src"
