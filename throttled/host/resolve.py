"""Looks names up in DNS as this system does (nsswitch.conf), in a process that can be ended.

Commands and the gathering of facts use it, never the daemon's loop: its sandbox has no network.
Owns no state.
"""

from throttled import address
from throttled.host.command import run

#: Seconds for one look-up; the system's own resolver waits longer for a dead server.
SECONDS = 5.0


def forward(name: str, seconds: float = SECONDS) -> list[str]:
    """Return the addresses of a host, in the order of the system's preference.

    Raises:
        HostError: it does not resolve, or not in time.
    """
    lines = run("getent", "ahosts", "--", name, seconds=seconds).splitlines()
    found = (address.canonical(line.split()[0].partition("%")[0]) for line in lines)
    return list(dict.fromkeys(found))


def reverse(of: str, seconds: float = SECONDS) -> str:
    """Return the name of an address, in small letters.

    Raises:
        HostError: it has none, or not in time.
    """
    fields = run("getent", "hosts", "--", of, seconds=seconds).split()
    return fields[1].lower().rstrip(".") if len(fields) > 1 else ""
