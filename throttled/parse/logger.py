"""The lines in which a logger says that it lost others: systemd-journald and rsyslogd. Pure.

`count` is how many, `where` whose (a unit or a process id) where that is said. Texts: systemd's
journald-rate-limit, rsyslog's runtime/ratelimit.c and, before version 7, imuxsock.
"""

import re

from throttled.model import Event
from throttled.parse.header import Origin

_LOST = (
    re.compile(r"Suppressed (?P<count>[0-9]{1,9}) messages from (?P<where>\S{1,200})"),
    re.compile(
        r"im[a-z]{1,20}(?:\[pid:? ?(?P<where>[0-9]{1,10})[^\]]{0,200}\])?: "
        r"(?P<count>[0-9]{1,9}) messages lost due to "
    ),
    re.compile(
        r"im[a-z]{1,20} lost (?P<count>[0-9]{1,9}) messages(?: from pid (?P<where>[0-9]{1,10}))?"
    ),
)


def read(body: str, origin: Origin, time: float) -> Event | None:
    """Return the event of a body, or None."""
    host, instance, process, pid = origin
    for pattern in _LOST:
        match = pattern.match(body)
        if match is not None:
            return Event(
                "lines_lost",
                "",
                process,
                instance,
                pid,
                time,
                host,
                count=int(match["count"]),
                where=match["where"] or "",
            )
    return None
