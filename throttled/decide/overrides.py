"""Other thresholds of a limit for named addresses and networks. Pure.

An address that several entries cover has those of the narrowest. Owns no state but the entries.
"""

from collections.abc import Mapping

from throttled import address
from throttled.limits import Override


class Overrides:
    """The entries of one limit's `for`."""

    def __init__(self, given: Mapping[str, Override]) -> None:
        """Take the entries.

        Args:
            given: by address or network, in any form.
        """
        entries: dict[int, dict[bytes, Override]] = {}
        for subject, override in given.items():
            packed, prefix = address.parse(subject)
            entries.setdefault(prefix, {})[packed] = override
        #: The narrowest first; empty where there are none, which is asked at each crossing.
        self.entries = dict(sorted(entries.items(), reverse=True))
        #: Every threshold that is given.
        self.thresholds = [n for o in given.values() if o.enabled for n in (o.soft, o.hard) if n]

    def of(self, subject: str) -> Override | None:
        """Return the entry of a canonical address or network: its own, or of what contains it."""
        return address.covering(self.entries, subject)
