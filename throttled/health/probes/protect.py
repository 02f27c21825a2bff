"""What of `[protect]` protects more than is ever meant. Owns no state."""

from collections.abc import Iterator, Sequence

from throttled import address
from throttled.host.mynetworks import too_wide
from throttled.model import Finding


def check(networks: Sequence[str], names: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each entry that is a large part of the Internet.

    Args:
        networks: as configured: addresses and networks.
        names: as configured: host names, and suffixes that begin with a dot.
    """
    wide = [text for text in networks if too_wide(address.subject(text))]
    for text in (*wide, *(name for name in names if name.startswith(".") and name.count(".") == 1)):
        what = f"[protect]: {text} is much of the Internet: nobody in it is throttled or banned"
        yield Finding("warning", what, "write the networks or names that are meant")
