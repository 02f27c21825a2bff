"""Whether another host publishes under the name of this one.

Two hosts of the same name write into the same stream: peers ignore what one of them publishes with
a number below the other's, and neither reads what the other bans. So each start of a daemon puts a
random number into its entries, and an entry that came into the own stream after the start, with
another number, is another host's. Then this host publishes heartbeats alone, by which the other one
sees it too, until no such entry has come for `LASTING` seconds.

Owns the number of this start, and which entry of another was the latest.
"""

import secrets

from throttled.clock import Moment
from throttled.core.inbox import is_place
from throttled.fleet import wire
from throttled.fleet.frames import Entry
from throttled.fleet.wire import Seal, WireError

LASTING = 200.0  # more than three heartbeats


class Namesake:
    """Another host of the same name, if there is one."""

    def __init__(self, seal: Seal) -> None:
        """Know of none."""
        self.writer = secrets.randbits(32)
        self._seal = seal
        self._after: tuple[int, int] | None = None  # id of the latest entry that was looked at
        self._until = 0.0  # boot clock

    def connected(self, last: Entry | None, now: Moment) -> None:
        """Note the last entry of the own stream: at first that of an earlier start."""
        if self._after is None:
            self._after = wire.place(last[0]) if last is not None and is_place(last[0]) else (0, 0)
        elif last is not None:
            self.seen(last, now)

    def seen(self, entry: Entry, now: Moment) -> None:
        """Note an entry of the own stream that the fleet process did not add."""
        identity, data, mac = entry
        if self._after is None or not is_place(identity) or wire.place(identity) <= self._after:
            return
        try:
            writer = wire.decode(self._seal, data, mac).writer
        except WireError:  # of nobody who has the secret
            return
        self._after = wire.place(identity)
        if writer != self.writer:
            self._until = now.boot + LASTING

    def active(self, boot: float) -> bool:
        """Return whether there is one."""
        return boot < self._until
