"""The table `inet throttled_admission_PORT` as text for libnftables. Pure.

    arriving  passes on what is no SYN to a port in `lease`, by loopback, not for this host, or of
              a known client. Then a stranger's SYN is dropped if the ports are `closed` (the daemon
              has counted as many connections as the cap), if its network had its turn, or above
              the pace.
    repeated  what was above the pace and comes again from the same address and port, as a client's
              kernel sends it after a second: it has a pace of its own, which forged SYNs do not
              use up.
    leaving   data that Postfix sends to a stranger shows that the handshake was completed: here its
              network's turn is marked, so that forged SYNs mark nothing. No connection tracking.

Elements of `lease` and `closed` expire, so that nothing is dropped when the daemon is gone.
"""

import re
from collections.abc import Iterable, Sequence

from throttled import address
from throttled.enforce.admission.protocol import KNOWN, AdmissionLimits
from throttled.enforce.sets import outermost

COUNTERS = ("dropped_cap", "dropped_pace", "dropped_turn", "admitted")
#: Seconds in which a SYN that was dropped is expected again: the kernel of a client sends after 1 s
#: and 3 s.
_AGAIN = 4
_SEEN = 131_072
_TURNS = 65_536
_TABLE = re.compile(r"^table inet (throttled_admission_\d+)$", re.MULTILINE)
_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_FAMILIES = {4: "ip", 6: "ip6"}
_MASKS = {4: "255.255.255.0", 6: "ffff:ffff:ffff:ffff::"}
_CHAINS = ("arriving", "repeated", "leaving")
_HOOKS = {"arriving": "prerouting", "leaving": "output"}
#: After bans and throttles, at priority raw (-300), before connection tracking (-200).
_PRIORITY = -290


def table(ports: Iterable[int]) -> str:
    """Return the name of the table for some ports."""
    return f"throttled_admission_{min(ports)}"


def create(name: str) -> str:
    """Return the commands that make the table, its sets and counters, whatever was there before."""
    at = f"inet {name}"
    lines = [
        f"add table {at}",
        f"delete table {at}",
        f'add table {at} {{ comment "connections of strangers, by throttled(8)"; }}',
        *(f"add counter {at} {counter}" for counter in COUNTERS),
        *(f"add set {at} {each} {{ type inet_service; flags timeout; }}" for each in _PORTS),
    ]
    seen = f"size {_SEEN}; flags dynamic, timeout"
    for version, kind in _TYPES.items():
        lines += [
            f"add set {at} known{version} {{ type {kind}; size {2 * KNOWN}; }}",
            f"add set {at} networks{version} {{ type {kind}; flags interval; }}",
            f"add set {at} turn{version} {{ type {kind}; size {_TURNS}; flags dynamic, timeout; }}",
            f"add set {at} seen{version} {{ type {kind} . inet_service; {seen}; }}",
        ]
    for chain in _CHAINS:
        hook = _HOOKS.get(chain)
        base = (
            f" {{ type filter hook {hook} priority {_PRIORITY}; policy accept; }}" if hook else ""
        )
        lines.append(f"add chain {at} {chain}{base}")
    return "\n".join(lines) + "\n"


_PORTS = ("lease", "closed")


def rules(name: str, limits: AdmissionLimits) -> str:
    """Return the commands that put the rules for these limits in place of others."""
    at = f"inet {name}"
    verdict = "drop" if limits.dropping else "accept"
    chains = {
        "arriving": _arriving(limits, verdict),
        "repeated": [*_paced(limits), f"counter name dropped_pace {verdict}"],
        "leaving": _leaving(limits),
    }
    lines = [f"flush chain {at} {chain}" for chain in chains]
    lines += [f"add rule {at} {chain} {rule}" for chain, found in chains.items() for rule in found]
    return "\n".join(lines) + "\n"


def renew(name: str, which: str, ports: Iterable[int], seconds: float) -> str:
    """Return the commands by which ports are in `lease` or `closed` for some seconds from now.

    An element's time is set anew only if it is added, removed and added (before Linux 6.12).
    """
    listed = ", ".join(map(str, sorted(ports)))
    element = f"element inet {name} {which} {{ {listed} }}\n"
    lines = f"add {element}delete {element}"
    if seconds > 0:
        timed = ", ".join(f"{port} timeout {int(seconds * 1000)}ms" for port in sorted(ports))
        lines += f"add element inet {name} {which} {{ {timed} }}\n"
    return lines


def known(name: str, addresses: Sequence[str], *, add: bool) -> str:
    """Return the commands that add or remove known addresses, whether they are there or not."""
    lines = ""
    for version in _TYPES:
        of = [each for each in addresses if address.version(each) == version]
        if of:
            element = f"element inet {name} known{version} {{ {', '.join(of)} }}\n"
            lines += f"add {element}" + ("" if add else f"delete {element}")
    return lines


def networks(name: str, subjects: Iterable[str]) -> str:
    """Return the commands by which these are the known networks, and no others."""
    found = outermost(subjects)
    lines = "".join(f"flush set inet {name} networks{version}\n" for version in found)
    for version, of in found.items():
        if of:
            lines += f"add element inet {name} networks{version} {{ {', '.join(of)} }}\n"
    return lines


def ours(listed: str) -> list[str]:
    """Return the tables of this kind, as `list tables inet` prints them."""
    return _TABLE.findall(listed)


def remove(name: str) -> str:
    """Return the commands that remove the table, whether it is there or not."""
    return f"add table inet {name}\ndelete table inet {name}\n"


def _arriving(limits: AdmissionLimits, verdict: str) -> list[str]:
    found = [
        "meta l4proto != tcp accept",
        "tcp dport != @lease accept",
        "tcp flags & (fin | syn | rst | ack) != syn accept",
        'iif "lo" accept',
        "fib daddr type != local accept",
        *(rule for version in _TYPES for rule in _known(version, "saddr")),
        f"tcp dport @closed counter name dropped_cap {verdict}",
    ]
    if limits.turn:
        found += [
            f"{_FAMILIES[version]} saddr & {_MASKS[version]} @turn{version}"
            f" counter name dropped_turn {verdict}"
            for version in _TYPES
        ]
    found += _paced(limits)
    above = f"counter name dropped_pace {verdict}"
    for version, family in _FAMILIES.items():
        pair = f"{family} saddr . tcp sport"
        found += [
            f"{pair} @seen{version} goto repeated",
            f"add @seen{version} {{ {pair} timeout {_AGAIN}s }} {above}",
        ]
    # `seen` is full: nobody is kept out for that.
    return [*found, "goto repeated"]


def _paced(limits: AdmissionLimits) -> list[str]:
    if not limits.pace:
        return ["counter name admitted accept"]
    rate = f"limit rate {10 * limits.pace}/second burst {limits.pace} packets"
    return [f"{rate} counter name admitted accept"]


def _leaving(limits: AdmissionLimits) -> list[str]:
    if not limits.turn:
        return []
    turn = max(1, int(limits.turn))
    return [
        "meta l4proto != tcp accept",
        "tcp sport != @lease accept",
        "tcp flags & (syn | rst | psh) != psh accept",
        'oif "lo" accept',
        *(rule for version in _TYPES for rule in _known(version, "daddr")),
        *(
            f"add @turn{version} {{ {family} daddr & {_MASKS[version]} timeout {turn}s }} accept"
            for version, family in _FAMILIES.items()
        ),
    ]


def _known(version: int, end: str) -> list[str]:
    family = _FAMILIES[version]
    return [f"{family} {end} @{name}{version} accept" for name in ("known", "networks")]
