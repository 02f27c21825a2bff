"""Whether another host publishes under the name of this one.

Two hosts of the same name write into the same stream: peers ignore what one of them publishes with
a number below the other's, and neither reads what the other bans. So each start of a daemon puts a
random number into its entries, and an entry that came into the own stream after the start, with
another number, is another host's. Its own number is beyond those of before the start; else it was
there before, and someone wrote it again or restored a backup of the server. While there is another,
this host publishes heartbeats alone, by which the other one sees it too: until no such entry has
come for `LASTING` seconds.

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
        self._earlier = 0  # entries up to this number are of before the start, or repeated
        self._until = 0.0  # boot clock

    def connected(self, last: Entry | None, number: int, now: Moment) -> int:
        """Note the last entry of the own stream: at first that of an earlier start; see `seen`.

        Args:
            last: that entry.
            number: of the latest entry that is known of an earlier start.
            now: both clocks.
        """
        if self._after is None:
            self._earlier = number
            self._after = wire.place(last[0]) if last is not None and is_place(last[0]) else (0, 0)
            return 0
        return self.seen(last, now) if last is not None else 0

    def seen(self, entry: Entry, now: Moment) -> int:
        """Note an entry of the own stream that the fleet process did not add.

        Returns:
            Its number if it is another host's and new; else 0.
        """
        identity, data, mac = entry
        if self._after is None or not is_place(identity) or wire.place(identity) <= self._after:
            return 0
        try:
            found = wire.read(self._seal, data, mac, now.wall)
        except WireError:  # of nobody who has the secret, or who means harm
            return 0
        self._after = wire.place(identity)
        if found.writer == self.writer or found.number <= self._earlier:
            return 0
        self._until = now.boot + LASTING
        return found.number

    def active(self, boot: float) -> bool:
        """Return whether there is one."""
        return boot < self._until
