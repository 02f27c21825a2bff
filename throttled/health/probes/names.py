"""What the host names in `[protect] names` match, by DNS as this host sees it."""

import time
from collections.abc import Iterator, Sequence

from throttled.errors import HostError
from throttled.host.resolve import SECONDS, forward, reverse
from throttled.model import Finding

#: Names that are looked up, and seconds for all of them.
_MOST = 20
_TOGETHER = 20.0


def check(names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each name: whom it protects.

    Args:
        names: as configured: host names, and suffixes that begin with a dot.
    """
    end = time.monotonic() + _TOGETHER
    for name in names[:_MOST]:
        if name.startswith("."):
            what = f"every client whose confirmed host name in Postfix's log ends in {name}"
            yield Finding("ok", f"[protect] names: {name} matches {what}")
        elif time.monotonic() < end:
            yield _host(name.lower(), end)


def _host(name: str, end: float) -> Finding:
    try:
        found = forward(name, _left(end))
    except HostError:
        what = f"[protect] names: {name} does not resolve, so it matches no client"
        return Finding("warning", what, f"correct the name; see: getent ahosts {name}")
    others = [(each, called) for each, called in _names(found, end) if called != name]
    if not others:
        what = f"[protect] names: {name} matches its addresses: {', '.join(found)}"
        return Finding("ok", what)
    listed = ", ".join(f"{each} ({called or 'no name'})" for each, called in others)
    what = f"[protect] names: {name} does not match {listed}: the reverse name must be the same"
    return Finding("warning", what, f"to allow all its addresses: throttled allow --resolve {name}")


def _names(addresses: Sequence[str], end: float) -> Iterator[tuple[str, str]]:
    for each in addresses:
        try:
            yield each, reverse(each, _left(end))
        except HostError:
            yield each, ""


def _left(end: float) -> float:
    return min(SECONDS, max(0.01, end - time.monotonic()))
