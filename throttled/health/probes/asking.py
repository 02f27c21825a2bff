"""Whether Postfix asks the daemon where it was connected (`throttled postfix connect`)."""

from collections.abc import Iterator

from throttled.errors import HostError
from throttled.facts import Facts
from throttled.host import asked
from throttled.model import Finding

_HINT = "throttled postfix connect"


def check(facts: Facts, *, acting: bool = False, recipients: bool = False) -> Iterator[Finding]:
    """Yield where an instance does not ask as it should.

    Args:
        facts: the instances.
        acting: some limit of accounts or inside hosts throttles or bans.
        recipients: some limit of what mailboxes or domains receive does.
    """
    for directory in facts.config_directories:
        try:
            found = asked.findings(directory, recipients=recipients)
        except HostError:
            continue  # reported among the facts' warnings
        for what in found or ():
            yield Finding("warning", f"{directory}: {what}", _HINT)
        if found == []:
            about = "each message and each recipient" if recipients else "each message"
            yield Finding("ok", f"{directory}: Postfix asks about {about}")
        elif found is None and (acting or recipients):
            whose = "accounts and inside hosts" if acting else "mailboxes or domains"
            what = f"{directory}: limits of {whose} act, and Postfix asks not"
            yield Finding("warning", what, _HINT)
