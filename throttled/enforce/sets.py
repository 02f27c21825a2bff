"""The sets of subjects: one for each scope, action, IP version, prefix length and rate. Pure.

An address and a network of any length are looked up alike: in a plain hash set, networks after
the source address was masked. No interval sets: adding to one costs O(n), one refuses networks
that overlap, and libnftables reads all interval sets of a host, other programs' too, before it
adds to any set. The sets in `BASE` always exist; others are made for the first network of a length
or the first throttle of a rate. Those of a rate are removed when they are empty and the rules
change.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from throttled import address
from throttled.enforce import entries
from throttled.enforce.backend import Ruleset
from throttled.model import ACTIONS, SCOPES, Action, Entry, Rate, Scope

_NAME = re.compile(
    rf"({'|'.join(SCOPES)})_({'|'.join(ACTIONS)})([46])(?:_(\d{{1,3}}))?(?:_(\d+[a-z]\d+))?"
)
BITS = {4: 32, 6: 128}


def stem(scope: Scope, action: Action, version: int) -> str:
    """Return how the name of a set begins: `mx_ban4`."""
    return f"{scope}_{action}{version}"


class SetId(NamedTuple):
    """What is in a set. Its `name` says the same to people: `mx_ban4_24`, `mx_throttle4_6h2`."""

    scope: Scope
    action: Action
    version: int  # 4 or 6
    prefix: int  # bits of the subjects in it; 32 and 128 are addresses
    rate: str = ""  # of throttles, as in `entries`; "" = the configured one

    @property
    def name(self) -> str:
        """Return the name of the set in the kernel."""
        length = "" if self.prefix == BITS[self.version] else f"_{self.prefix}"
        rate = f"_{self.rate}" if self.rate else ""
        return f"{stem(self.scope, self.action, self.version)}{length}{rate}"

    @property
    def mask(self) -> str:
        """Return the netmask as an address; empty for sets of addresses."""
        bits = BITS[self.version]
        if self.prefix == bits:
            return ""
        return address.unpack(address.mask(b"\xff" * (bits // 8), self.prefix))

    def subject(self, key: bytes) -> str:
        """Return the subject of a key of this set."""
        return address.text(key, self.prefix)


#: What is refused by a TCP reset a second, at most; more is dropped: a flood shall cost no answers.
REFUSED = 1000

#: The sets of a new table: addresses, and the networks that addresses are grouped into.
BASE = tuple(
    SetId(scope, action, version, prefix)
    for scope in SCOPES
    for action in ACTIONS
    for version, prefix in ((4, 32), (4, 24), (6, 128), (6, 64))
    if action != "exempt" or prefix == BITS[version]
)


def parse_name(name: str) -> SetId | None:
    """Return what is in a set of this name; None for a set that is not of this kind."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    scope, action, version = cast("Scope", match[1]), cast("Action", match[2]), int(match[3])
    prefix = int(match[4] or BITS[version])
    found = SetId(scope, action, version, prefix, match[5] or "")
    if found.name != name or prefix > BITS[version] or (action == "exempt" and found.mask):
        return None
    if found.rate and (action != "throttle" or entries.read(found.rate) is None):
        return None
    return found


def place(entry: Entry) -> tuple[SetId, bytes]:
    """Return the set and the key of an entry's subject.

    Raises:
        ValueError: see `entries.parse`.
    """
    key, prefix, rate = entries.parse(entry)
    return SetId(entry.scope, entry.action, 4 if len(key) == 4 else 6, prefix, rate), key


def rate(of: SetId, ruleset: Ruleset) -> Rate:
    """Return the rate of a set of throttles: its own, or the configured one."""
    own = entries.read(of.rate)
    return Rate(ruleset.rate, ruleset.per, ruleset.burst) if own is None else own


def in_units(rate: Rate, units: Mapping[str, int]) -> tuple[float, str]:
    """Return a rate in the smallest unit that gives a whole number, or else in the largest unit."""
    packets, unit = 0.0, ""
    for unit, seconds in units.items():  # noqa: B007 - the last one is returned
        packets = rate.count * seconds / rate.per
        if packets >= 1 and packets == int(packets):
            break
    return packets, unit


def outermost(subjects: Iterable[str]) -> dict[int, list[str]]:
    """Return the networks of each version for interval sets; one inside another is left out.

    Raises:
        ValueError: a subject is neither an address nor a network.
    """
    found: dict[int, list[str]] = {4: [], 6: []}
    last = (b"", 0)
    networks = sorted(map(address.parse, subjects), key=lambda each: (len(each[0]), each))
    for packed, prefix in networks:
        if not address.contains(last, packed):
            last = packed, prefix
            version = 4 if len(packed) == 4 else 6
            found[version].append(f"{address.unpack(packed)}/{prefix}")
    return found
