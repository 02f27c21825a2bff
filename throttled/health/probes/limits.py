"""Whether Postfix's own settings let strangers relay, or refuse honest mail. Asks postconf."""

import shlex
from collections.abc import Iterator
from contextlib import suppress

from throttled.errors import HostError, NotPermittedError
from throttled.facts import Facts
from throttled.host import limits
from throttled.host.changes import journal
from throttled.maincf.findings import findings
from throttled.model import Finding

_RELAY = (
    "take such networks out of mynetworks, or such -o out of master.cf; see "
    "https://www.postfix.org/SMTPD_ACCESS_README.html"
)


def check(facts: Facts, store: str = "") -> Iterator[Finding]:
    """Yield what is wrong in each instance, with the command that corrects it.

    Args:
        facts: the instances.
        store: path of the database; beside it is the journal of changes.
    """
    several = len(facts.config_directories) > 1
    for directory in facts.config_directories:
        yield from _interrupted(directory, store)
        try:
            state = limits.state(directory)
        except HostError:
            continue  # reported among the facts' warnings
        which = f" --instance {state.name or directory}" if several else ""
        found = list(findings(state))
        for what, fix in found:
            hint = f"throttled postfix set {shlex.quote(fix)}{which}" if fix else _RELAY
            yield Finding("warning", f"{directory}: {what}", hint)
        if not found:
            yield Finding("ok", f"{directory}: Postfix's own limits are sound")


def _interrupted(directory: str, store: str) -> Iterator[Finding]:
    """Yield that a command was killed while it changed main.cf."""
    with suppress(HostError, NotPermittedError):
        for change in journal(store, directory).load().pending() if store else ():
            names = ", ".join(setting.name for setting in change.settings)
            what = f"{directory}: a change of {names} by {change.user} is unfinished"
            hint = "if no throttled postfix command runs: throttled postfix undo"
            yield Finding("warning", what, hint)
