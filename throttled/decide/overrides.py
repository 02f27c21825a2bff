"""Other thresholds of a limit for named addresses and networks. Pure.

An address that several entries cover has those of the narrowest. Owns no state but the entries.
"""

from collections.abc import Mapping

from throttled import address
from throttled.settings import Override


class Overrides:
    """The entries of one limit's `for`."""

    def __init__(self, given: Mapping[str, Override]) -> None:
        """Take the entries.

        Args:
            given: by address or network, in any form.
        """
        #: By prefix length; empty where there are none, which is asked at each crossing.
        self.entries: dict[int, dict[bytes, Override]] = {}
        for subject, override in given.items():
            packed, prefix = address.parse(subject)
            # IPv4 and IPv6 share this table: their packed lengths differ, so keys cannot meet.
            self.entries.setdefault(prefix, {})[packed] = override
        self._prefixes = sorted(self.entries, reverse=True)
        #: Every threshold that is given.
        self.thresholds = [n for o in given.values() if o.enabled for n in (o.soft, o.hard) if n]

    def of(self, subject: str) -> Override | None:
        """Return the entry of a canonical address or network: its own, or of what contains it."""
        packed, length = address.parse(subject)
        for prefix in self._prefixes:
            if prefix <= length and prefix <= len(packed) * 8:
                found = self.entries[prefix].get(address.mask(packed, prefix))
                if found is not None:
                    return found
        return None
