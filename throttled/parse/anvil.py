"""The lines of anvil(8): peaks, written every 600 s and at exit. Pure.

`statistics: max connection rate 61/60s for (smtp:198.51.100.7) at Aug 22 10:00:01`. What stands in
the parentheses is `SERVICE:CLIENT`; SERVICE may hold colons and an address itself
(`127.0.0.1:10025`), the client may be a network (`2001:db8::/84`, Postfix >= 3.8). anvil/anvil.c.
"""

import re

from throttled.model import Event
from throttled.parse.client import address_or_network
from throttled.parse.header import Origin

_PEAK = re.compile(
    r"statistics: max (?P<what>\w{1,20} (?:rate|count)) (?P<count>[0-9]{1,9})(?:/[0-9]{1,9}s)?"
    r" for \((?P<ident>[^\s()]{1,200})\)"
)
#: The name of a service that listens on one address only (master(5)).
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|localhost|[^:]*\.[^:]*):[^:]+:")


def read(body: str, origin: Origin, time: float) -> Event | None:
    """Return the event of a body, or None."""
    match = _PEAK.match(body)
    if match is None:
        return None
    what, count, ident = match.groups()
    service, client = _split(ident)
    if not client:
        return None
    host, instance, process, pid = origin
    return Event(
        "peak",
        client,
        process,
        instance,
        pid,
        time,
        host,
        count=int(count),
        where=what,
        service=service,
    )


def _split(ident: str) -> tuple[str, str]:
    """Part service and client at the first colon after which an address stands.

    A service `HOST:PORT` is tried first, as `25:2001:db8::1` is an address too.
    """
    match = _HOST_AND_PORT.match(ident)
    if match is not None and (found := address_or_network(ident[match.end() :])):
        return ident[: match.end() - 1], found
    colon = ident.find(":", 1)
    while colon > 0:
        if found := address_or_network(ident[colon + 1 :]):
            return ident[:colon], found
        colon = ident.find(":", colon + 1)
    return "", ""
