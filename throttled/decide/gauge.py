"""One limit of senders and its counters. Pure: no clock, no I/O.

Owns the counters: at most `TRACKED` subjects, the longest silent are evicted.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from throttled.decide.limits import NEVER
from throttled.decide.overrides import Overrides
from throttled.decide.tables import Counters, Distinct, Generations
from throttled.decide.uses import Use
from throttled.limits import Limit, Override
from throttled.model import Scope

TRACKED = 50_000
#: Bytes are counted in these, rounded up: a meter ends at 8 million.
_KIB = 1024
_NO_OVERRIDE = Override()
#: Inside hosts and recipients have to do with port 25, accounts and users with submission.
SCOPE_OF: dict[str, Scope] = {
    "account": "submission",
    "uid": "submission",
    "domain": "submission",
    "inside": "mx",
    "mailbox": "mx",
}


class Gauge:
    """One limit with its meters."""

    def __init__(self, name: str, limit: Limit) -> None:
        self.name = name
        self.limit = limit
        self.within = float(limit.within)
        #: Of decisions: what goes to a domain and what comes from it are two.
        self.scope: Scope = "mx" if limit.incoming else SCOPE_OF[limit.of]
        self.unit = _KIB if limit.count == "bytes" else 1
        #: In thousandths: as a float 29 % of 100 is less than 29.
        self.share = round(10 * float(limit.share.rstrip("%"))) if limit.share else 0
        given = (
            limit.soft,
            limit.hard,
            *(n for o in limit.for_.values() for n in (o.soft, o.hard)),
        )
        most = max(n or 0 for n in given)
        # Reported above `most`, and again at twice that.
        self.names = Distinct(self.within, TRACKED, 2 * (most + 1))
        self.table = Counters(self.within, TRACKED)
        self.whole = Counters(self.within, TRACKED)  # recipients, for a share
        self.reported: Generations[str, tuple[float, int]] = Generations(self.within, TRACKED)
        #: Returns the entry of the limit's `for` that a subject has.
        self.own: Callable[[str], Override | None] = Overrides({}).of

    def thresholds(self, subject: str) -> tuple[int, int]:
        """Return soft and hard of a subject."""
        own = self.own(subject) or _NO_OVERRIDE
        if not own.enabled:
            return NEVER, NEVER
        return own.soft or self.limit.soft or NEVER, own.hard or self.limit.hard or NEVER

    def add(self, use: Use, at: float) -> int:
        """Count, and return what there is within the window."""
        if use.counted == "networks":
            return self.names.add(use.subject, at, use.name)
        return self.table.add(use.subject, at, -(-use.amount // self.unit)) * self.unit

    def value(self, subject: str, at: float) -> int:
        """Return what there is within the window that ends at `at`."""
        if self.limit.count == "networks":
            return self.names.value(subject, at)
        return self.table.value(subject, at) * self.unit

    def tables(self) -> tuple[Generations[str, Any], ...]:
        """Return all that is counted and reported."""
        return self.table, self.whole, self.names, self.reported

    def again(self, subject: str, value: int, at: float) -> bool:
        """Return whether a report is due, and remember that it was made."""
        known = self.reported.get(subject)
        if known is not None and at < known[0] and value < 2 * known[1]:
            return False
        self.reported.put(subject, (at + self.within, value), at)
        return True


class SenderMeter(Struct, frozen=True):
    """What a limit shows of a sender."""

    limit: str
    count: str
    within: float  # seconds
    value: int
    threshold: int  # soft; hard where there is no soft
    hard: int  # 0: there is none, or it bans nobody
    above: bool  # all thresholds are exceeded
    scope: Scope  # of decisions
    acting: bool  # these have an effect

    def share(self) -> float:
        """Return how much of its highest threshold is reached."""
        return self.value / (self.hard or self.threshold or NEVER)
