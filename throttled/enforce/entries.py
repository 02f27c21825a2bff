"""What an entry may be, in every backend; a rate as text, "6h2" is six an hour, two at once. Pure.

Every backend keeps such a rate exactly: nftables and xt_hashlimit know these units, and the latter
counts no more than a day in which an allowance becomes whole again.
"""

import re
from functools import lru_cache

from throttled import address
from throttled.model import Entry, Rate

#: Seconds of the units of a rate, and their letters.
UNITS = {1.0: "s", 60.0: "m", 3600.0: "h", 86400.0: "d"}
_SECONDS = {letter: seconds for seconds, letter in UNITS.items()}
_DAY = 86400.0
#: So that names of sets stay as short as ipset wants them.
_MOST = 100_000
_TEXT = re.compile(r"([1-9]\d{0,5})([smhd])([1-9]\d{0,5})")


def parse(entry: Entry) -> tuple[bytes, int, str]:
    """Return the packed subject of an entry, its prefix length, and its rate as text, "" for none.

    Raises:
        ValueError: the subject is neither an address nor a network, or a network that cannot be
            exempt, or no backend keeps the rate exactly.
    """
    packed, prefix = address.parse(entry.subject)
    if entry.action == "exempt" and prefix < len(packed) * 8:
        raise ValueError("only a single address can be exempt")
    rate = entry.rate if entry.action == "throttle" else None
    return packed, prefix, "" if rate is None else write(rate)


@lru_cache(maxsize=256)
def write(rate: Rate) -> str:
    """Return a rate as text.

    Raises:
        ValueError: no backend keeps it exactly.
    """
    unit = UNITS.get(rate.per)
    if unit is None:
        raise ValueError(f"a rate is per second, minute, hour or day, not per {rate.per:g} s")
    if not (1 <= rate.count <= _MOST and 1 <= rate.burst <= _MOST):
        raise ValueError(f"a rate has a count and a burst from 1 to {_MOST}")
    if rate.burst * rate.per > _DAY * rate.count:
        raise ValueError("the burst of a rate is more than it allows in a day")
    return f"{rate.count}{unit}{rate.burst}"


@lru_cache(maxsize=256)
def read(text: str) -> Rate | None:
    """Return the rate that a text says; None where it is none that `write` returns."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    rate = Rate(int(match[1]), _SECONDS[match[2]], int(match[3]))
    try:
        return rate if write(rate) == text else None
    except ValueError:
        return None
