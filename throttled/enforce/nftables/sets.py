"""The sets that hold subjects: one for each scope, action, IP version and prefix length. Pure.

An address and a network of any length are looked up alike: in a plain hash set, networks after
the source address was masked. No interval sets: adding to one costs O(n), one refuses networks
that overlap, and libnftables reads all interval sets of a host, anybody's, before it adds to any
set. Sets of the lengths in `BASE` always exist, others since a network of that length first came.
"""

import re
from typing import NamedTuple

from throttled import address
from throttled.model import ACTIONS, SCOPES, Action, Entry, Ruleset, Scope

_NAME = re.compile(rf"({'|'.join(SCOPES)})_({'|'.join(ACTIONS)})([46])(?:_(\d{{1,3}}))?")
_BITS = {4: 32, 6: 128}
_TIMEOUT = 0x10  # NFT_SET_TIMEOUT
#: What nftables calls the time in which a rate is counted, and its seconds.
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


class SetId(NamedTuple):
    """What is in a set. Its `name` says the same to people: `mx_ban4`, `mx_ban4_24`."""

    scope: Scope
    action: Action
    version: int  # 4 or 6
    prefix: int  # bits of the subjects in it; 32 and 128 are addresses

    @property
    def name(self) -> str:
        """Return the name of the set in the kernel."""
        length = "" if self.prefix == _BITS[self.version] else f"_{self.prefix}"
        return f"{self.scope}_{self.action}{self.version}{length}"

    @property
    def mask(self) -> str:
        """Return the netmask as an address; empty for sets of addresses."""
        bits = _BITS[self.version]
        if self.prefix == bits:
            return ""
        return address.unpack(address.mask(b"\xff" * (bits // 8), self.prefix))

    def subject(self, key: bytes) -> str:
        """Return the subject of a key of this set."""
        text = address.unpack(key)
        return text if len(key) * 8 == self.prefix else f"{text}/{self.prefix}"


#: The sets of a new table: addresses, and the networks that addresses are grouped into.
BASE = tuple(
    SetId(scope, action, version, prefix)
    for scope in SCOPES
    for action in ACTIONS
    for version, prefix in ((4, 32), (4, 24), (6, 128), (6, 64))
)


class Definition(NamedTuple):
    """The part of a set that cannot be changed once it exists."""

    size: int
    limit: tuple[int, int, int] | None  # packets, in so many seconds, burst; None: drops all
    key: int  # bytes
    flags: int  # NFT_SET_*


def parse_name(name: str) -> SetId | None:
    """Return what is in a set of this name; None for a set that is not of this kind."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    version = int(match[3])
    prefix = int(match[4] or _BITS[version])
    scope: Scope = "mx" if match[1] == "mx" else "submission"
    action: Action = "ban" if match[2] == "ban" else "throttle"
    found = SetId(scope, action, version, prefix)
    return found if found.name == name and prefix <= _BITS[version] else None


def place(entry: Entry) -> tuple[SetId, bytes]:
    """Return the set and the key of an entry's subject.

    Raises:
        ValueError: the subject is neither an address nor a network.
    """
    key, prefix = address.parse(entry.subject)
    return SetId(entry.scope, entry.action, 4 if len(key) == 4 else 6, prefix), key


def definition(of: SetId, ruleset: Ruleset) -> Definition:
    """Return what a set has to be under a ruleset."""
    shape = _BITS[of.version] // 8, _TIMEOUT
    if of.action == "ban":
        return Definition(ruleset.size, None, *shape)
    packets, unit = rate(ruleset)
    return Definition(ruleset.size, (packets, _UNITS[unit], ruleset.burst), *shape)


def rate(ruleset: Ruleset) -> tuple[int, str]:
    """Return the throttle's rate as nftables writes it: 10 in 30 seconds is (20, "minute").

    In the smallest unit that gives a whole number; rounded where none does.
    """
    packets = 0.0
    for unit, seconds in _UNITS.items():
        packets = ruleset.rate * seconds / ruleset.per
        if packets >= 1 and packets == int(packets):
            return int(packets), unit
    return max(1, round(packets)), "week"
