"""Where an instance asks the daemon, as its own postconf says. Owns no state."""

from collections.abc import Iterator
from functools import cache

from throttled.host import postconf
from throttled.host.command import run
from throttled.host.postconf import Entry, pairs
from throttled.host.services import disabled, loopback_only
from throttled.maincf import asking
from throttled.maincf.asking import CLIENT, DATA, RECIPIENT

LISTS = (DATA, RECIPIENT, CLIENT)


def findings(directory: str) -> Iterator[str]:
    """Yield where an instance does not ask as it should.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    lookup = written(directory)
    if lookup(asking.NAME) != asking.VALUE:
        found = lookup(asking.NAME) or "nothing refers to it"
        yield f"{asking.NAME} is not as throttled sets it: {found}"
    if why := asking.finding(lookup(DATA), lookup):
        yield f"{DATA} does not ask: {why}"
    for entry, name, value in overrides(directory):
        if name == DATA and not loopback_only(entry):
            why = asking.finding(value, lookup)
            if why:
                yield f"{entry.name} does not ask: its -o {DATA} hides the check ({why})"


def connected(directory: str) -> bool:
    """Return whether an instance was connected.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    lookup = written(directory)
    lists = (lookup(DATA), *(value for _, _, value in overrides(directory)))
    return any(asking.disconnected(value) != value for value in lists) or bool(lookup(asking.NAME))


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
