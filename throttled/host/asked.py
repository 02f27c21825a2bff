"""Where an instance asks the daemon, as its own postconf says. Owns no state."""

from collections.abc import Iterable, Iterator
from functools import cache

from throttled.host import postconf
from throttled.host.command import run
from throttled.host.postconf import Entry, pairs
from throttled.host.services import disabled, loopback_only
from throttled.maincf import asking
from throttled.maincf.asking import CLIENT, DATA, RECIPIENT

LISTS = (DATA, RECIPIENT, CLIENT)


def findings(directory: str) -> list[str] | None:
    """Return where an instance does not ask as it should; None where it was not connected.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    lookup, own = written(directory), list(overrides(directory))
    lists = (lookup(DATA), *(value for _, _, value in own))
    connected = any(asking.disconnected(value) != value for value in lists)
    return list(_findings(lookup, own)) if connected or lookup(asking.NAME) else None


def _findings(lookup: asking.Lookup, own: Iterable[tuple[Entry, str, str]]) -> Iterator[str]:
    if lookup(asking.NAME) != asking.VALUE:
        found = lookup(asking.NAME) or "nothing refers to it"
        yield f"{asking.NAME} is not as throttled sets it: {found}"
    if why := asking.finding(lookup(DATA), lookup):
        yield f"{DATA} does not ask: {why}"
    for entry, name, value in own:
        if name == DATA and not loopback_only(entry):
            why = asking.finding(value, lookup)
            if why:
                yield f"{entry.name} does not ask: its -o {DATA} hides the check ({why})"


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
