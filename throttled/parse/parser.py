"""From a line to an event: header, then the table of the daemon that wrote it. Pure.

Lines are latin-1 decoded, without newline. A line that is not understood is no event; no text
raises. Owns a cache of times (`clock.py`); the others are module-wide and bounded.
"""

import re
from collections.abc import Callable
from datetime import tzinfo

from msgspec.structs import replace

from throttled.model import Event
from throttled.parse import anvil, smtpd
from throttled.parse.clock import Clock
from throttled.parse.header import Origin, split

_READERS: dict[str, Callable[[str, Origin, float], Event | None]] = {
    "smtpd": smtpd.TABLE.read,
    "anvil": anvil.read,
}
#: rsyslog's $RepeatedMsgReduction, on by default in Ubuntu.
_REPEATED = re.compile(r"message repeated ([0-9]{1,9}) times: \[ ?(.*)\]\Z", re.DOTALL)


class Parser:
    """Reads the lines of one log.

    Args:
        zone: of times that name none.
        reference: seconds since the epoch; a line without year gets the latest one that puts it
            no later than a day after this.
    """

    def __init__(self, zone: tzinfo, reference: float) -> None:
        self._clock = Clock(zone, reference)

    def event(self, line: str, reference: float | None = None) -> Event | None:
        """Return the event of a line, or None.

        Args:
            line: latin-1 decoded, without newline; may end with a carriage return.
            reference: takes the place of the one given at first.
        """
        head = split(line, self._clock, reference)
        if head is None:
            return None
        origin, time, body = head
        read = _READERS.get(origin.process)
        if read is None:
            return None
        body = body.rstrip("\r")
        event = read(body, origin, time)
        if event is None and (match := _REPEATED.match(body)):
            event = read(match[2], origin, time)
            if event is not None:
                event = replace(event, count=event.count * int(match[1]))
        return event
