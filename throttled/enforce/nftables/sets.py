"""The sets of subjects: one for each scope, action, IP version, prefix length and rate. Pure.

An address and a network of any length are looked up alike: in a plain hash set, networks after
the source address was masked. No interval sets: adding to one costs O(n), one refuses networks
that overlap, and libnftables reads all interval sets of a host, anybody's, before it adds to any
set. The sets in `BASE` always exist, others since a network of that length, or a throttle of that
rate, first came; those of a rate are removed again when they are empty and the rules change.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, cast

from throttled import address
from throttled.enforce import entries
from throttled.model import ACTIONS, SCOPES, Action, Entry, Rate, Ruleset, Scope

_NAME = re.compile(
    rf"({'|'.join(SCOPES)})_({'|'.join(ACTIONS)})([46])(?:_(\d{{1,3}}))?(?:_(\d+[a-z]\d+))?"
)
_BITS = {4: 32, 6: 128}
_TIMEOUT = 0x10  # NFT_SET_TIMEOUT
#: What nftables calls the time in which a rate is counted, and its seconds.
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
#: Different rates that throttles may have beside the configured one: each is a rule that new
#: connections pass, for each prefix length. At one more the configured rate applies.
RATES = 32
TOO_MANY = f"the configured rate applies: there are {RATES} other rates already"


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
        length = "" if self.prefix == _BITS[self.version] else f"_{self.prefix}"
        rate = f"_{self.rate}" if self.rate else ""
        return f"{self.scope}_{self.action}{self.version}{length}{rate}"

    @property
    def mask(self) -> str:
        """Return the netmask as an address; empty for sets of addresses."""
        bits = _BITS[self.version]
        if self.prefix == bits:
            return ""
        return address.unpack(address.mask(b"\xff" * (bits // 8), self.prefix))

    def subject(self, key: bytes) -> str:
        """Return the subject of a key of this set."""
        return address.text(key, self.prefix)


#: The sets of a new table: addresses, and the networks that addresses are grouped into.
BASE = tuple(
    SetId(scope, action, version, prefix)
    for scope in SCOPES
    for action in ACTIONS
    for version, prefix in ((4, 32), (4, 24), (6, 128), (6, 64))
    if action != "exempt" or prefix == _BITS[version]
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
    scope, action, version = cast("Scope", match[1]), cast("Action", match[2]), int(match[3])
    prefix = int(match[4] or _BITS[version])
    found = SetId(scope, action, version, prefix, match[5] or "")
    if found.name != name or prefix > _BITS[version] or (action == "exempt" and found.mask):
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


class Rivals:
    """The sets in which a throttled subject may be instead: those of other rates."""

    def __init__(self, present: Iterable[SetId]) -> None:
        """Remember the sets of throttles among those that there are."""
        self._sets = {of for of in present if of.action == "throttle"}
        self._found: dict[SetId, list[SetId]] = {}

    def of(self, wanted: SetId) -> list[SetId]:
        """Return the rivals of a set of throttles, of those present or asked about before."""
        found = self._found.get(wanted)
        if found is None:
            self._sets.add(wanted)
            self._found = {}
            found = [of for of in self._sets if of[:4] == wanted[:4] and of != wanted]
            self._found[wanted] = found
        return found


def admitted(present: AbstractSet[SetId], more: Iterable[SetId]) -> set[SetId]:
    """Return those of `more` sets that may be made beside those `present`; see `RATES`."""
    rates = {of.rate for of in present if of.rate}
    found = set()
    for of in sorted(more):
        if len(rates | {of.rate} - {""}) <= RATES:
            rates |= {of.rate} - {""}
            found.add(of)
    return found


def definition(of: SetId, ruleset: Ruleset) -> Definition:
    """Return what a set has to be under a ruleset."""
    shape = _BITS[of.version] // 8, _TIMEOUT
    if of.action != "throttle":
        return Definition(ruleset.size, None, *shape)
    packets, unit, burst = limit(of, ruleset)
    return Definition(ruleset.size, (packets, _UNITS[unit], burst), *shape)


def rate(of: SetId, ruleset: Ruleset) -> Rate:
    """Return the rate of a set of throttles: its own, or the configured one."""
    own = entries.read(of.rate)
    return Rate(ruleset.rate, ruleset.per, ruleset.burst) if own is None else own


def limit(of: SetId, ruleset: Ruleset) -> tuple[int, str, int]:
    """Return a rate as nftables writes it, and its burst: 10 in 30 seconds is (20, "minute", …).

    In the smallest unit that gives a whole number; rounded where none does.
    """
    wanted = rate(of, ruleset)
    packets = 0.0
    for unit, seconds in _UNITS.items():
        packets = wanted.count * seconds / wanted.per
        if packets >= 1 and packets == int(packets):
            return int(packets), unit, wanted.burst
    return max(1, round(packets)), "week", wanted.burst
