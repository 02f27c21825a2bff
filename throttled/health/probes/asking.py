"""Whether Postfix asks the daemon where it was connected (`throttled postfix connect`)."""

from collections.abc import Iterator

from throttled.errors import HostError
from throttled.host import asked
from throttled.model import Facts, Finding

_HINT = "throttled postfix connect"


def check(facts: Facts, *, acting: bool = False) -> Iterator[Finding]:
    """Yield where an instance does not ask as it should.

    Args:
        facts: the instances.
        acting: some limit of accounts or inside hosts throttles or bans.
    """
    for directory in facts.config_directories:
        try:
            found = asked.findings(directory)
        except HostError:
            continue  # reported among the facts' warnings
        for what in found or ():
            yield Finding("warning", f"{directory}: {what}", _HINT)
        if found == []:
            yield Finding("ok", f"{directory}: Postfix asks about each message")
        elif found is None and acting:
            what = f"{directory}: limits of accounts and inside hosts act, and Postfix asks not"
            yield Finding("warning", what, _HINT)
