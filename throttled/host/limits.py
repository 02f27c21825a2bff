"""How an instance's limits are configured, asked of its own postconf. Owns no state."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from throttled.host.command import run
from throttled.host.postconf import overrides, pairs, value
from throttled.maincf.parameters import PARAMETERS
from throttled.maincf.state import CONTEXT, Serving, State

_NAMES = (*PARAMETERS, *CONTEXT)


def state(directory: str) -> State:
    """Read one instance.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    known = pairs(run("postconf", "-c", directory, "-xd", *_NAMES))  # others: "unknown parameter"
    names = tuple(known)
    written = pairs(run("postconf", "-c", directory, "-n"))
    values = _values(directory, names)
    read = State(
        directory=directory,
        values=values,
        stressed=_values(directory, names, "-o", "stress=yes"),
        defaults=known,
        written=written,
        services=tuple(_services(directory, values)),
        name=name(directory),
    )
    with suppress(OSError):
        queue = os.statvfs(values.get("queue_directory", "/var/spool/postfix"))
        return replace(read, queue_free=queue.f_bavail * queue.f_frsize)
    return read


def name(directory: str) -> str:
    """Return an instance's name (postmulti(1)); "" where it has none.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    return value(directory, "multi_instance_name")


def proposed(now: State, scratch: str) -> State:
    """Return what an instance would be with the main.cf of another directory."""
    names = tuple(now.values)
    values = _values(scratch, names)
    stressed = _values(scratch, names, "-o", "stress=yes")
    return replace(now, values=values, stressed=stressed)


def _values(directory: str, names: Iterable[str], *options: str) -> dict[str, str]:
    return pairs(run("postconf", "-c", directory, *options, "-x", *names))


def _services(directory: str, values: Mapping[str, str]) -> list[Serving]:
    """Return the SMTP services, with their own `-o` over main.cf's values."""
    own = overrides(directory)
    found = []
    for line in run("postconf", "-c", directory, "-M").splitlines():
        fields = line.split(maxsplit=8)
        service = "/".join(fields[:2])
        if len(fields) > 7 and fields[7] == "smtpd" and fields[1] in ("inet", "pass"):
            found.append(Serving(service, {**values, **own.get(service, {})}))
    return found
