"""The hosts that Postfix hands its mail to (`relayhost`), as addresses. Owns no state.

A name is resolved as this system does (`throttled.host.resolve`). Its MX records are not: a
`relayhost` without brackets is reported.
"""

import time
from collections.abc import Iterable

from throttled import address
from throttled.errors import HostError
from throttled.host.resolve import forward


def relays(hosts: Iterable[str], seconds: float) -> tuple[set[str], list[str]]:
    """Return addresses, and warnings.

    Args:
        hosts: as in `relayhost`: `[mail.example.com]:587`, `example.com`, `[2001:db8::7]`.
        seconds: for all names together; what took longer is a warning.
    """
    found: set[str] = set()
    warnings: list[str] = []
    end = time.monotonic() + seconds
    for host in dict.fromkeys(hosts):
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        try:
            found.add(address.canonical(name.lower().removeprefix("ipv6:")))
            continue
        except ValueError:
            pass  # a name
        if not host.startswith("["):
            warnings.append(f"relayhost {host}: its MX hosts are not known; see [protect] networks")
        try:
            found.update(forward(name, max(0.01, end - time.monotonic())))
        except HostError as error:
            warnings.append(f"relayhost {host}: {name} does not resolve ({error.message})")
    return found, warnings
