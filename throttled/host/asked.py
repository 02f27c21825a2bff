"""Where an instance asks the daemon, as its own postconf says. Owns no state."""

from collections.abc import Iterable, Iterator
from functools import cache

from throttled.host import postconf
from throttled.host.command import run
from throttled.host.postconf import Entry, pairs
from throttled.host.services import disabled, loopback_only
from throttled.maincf import asking
from throttled.maincf.asking import CHECK, CLIENT, DATA, RECIPIENT, RECIPIENTS, Check

LISTS = (DATA, RECIPIENT, CLIENT)


def findings(directory: str, *, recipients: bool = False) -> list[str] | None:
    """Return where an instance does not ask as it should; None where it was not connected.

    Args:
        directory: of the instance.
        recipients: it should ask about recipients too.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    lookup, own = written(directory), list(overrides(directory))
    lists = (lookup(DATA), *(value for _, _, value in own))
    connected = any(asking.disconnected(value) != value for value in lists)
    if not connected and not lookup(CHECK.name):
        return None
    found = list(_findings(lookup, own, DATA, CHECK))
    return found + list(_findings(lookup, own, RECIPIENT, RECIPIENTS)) if recipients else found


def _findings(
    lookup: asking.Lookup, own: Iterable[tuple[Entry, str, str]], where: str, check: Check
) -> Iterator[str]:
    if lookup(check.name) != check.value:
        found = lookup(check.name) or "nothing refers to it"
        yield f"{check.name} is not as throttled sets it: {found}"
    if why := asking.finding(lookup(where), lookup, check):
        yield f"{where} does not ask: {why}"
    for entry, name, value in own:
        if name == where and not loopback_only(entry):
            why = asking.finding(value, lookup, check)
            if why:
                yield f"{entry.name} does not ask: its -o {where} hides the check ({why})"


def written(directory: str) -> asking.Lookup:
    """Return what looks parameters of an instance up, as written in main.cf."""

    @cache
    def lookup(name: str) -> str:
        # postconf knows a parameter of ours only where something refers to it.
        return run("postconf", "-c", directory, "-h", name).strip()

    return lookup


def overrides(directory: str) -> Iterator[tuple[Entry, str, str]]:
    """Yield the lists that services of master.cf have as their own, as written there."""
    entries = {f"{e.name}/{e.kind}": e for e in postconf.read(directory).entries}
    for key, value in pairs(run("postconf", "-c", directory, "-P")).items():
        service, _, name = key.rpartition("/")
        entry = entries.get(service)
        if entry is None or name not in LISTS or entry.process != "smtpd" or disabled(entry):
            continue
        yield entry, name, value
