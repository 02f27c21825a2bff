"""The network of a machine's clients: a namespace with a tap interface.

The client owns the same addresses as in `netns.pair`, and the machine has those of its server
(`image`), so that `bots` talks to it. Needs root and /dev/net/tun.
"""

import contextlib
from collections.abc import Iterator

from lab.network import netns
from lab.network.netns import Namespace

#: The tap interface, which qemu opens inside the namespace.
TAP = "tap0"


@contextlib.contextmanager
def wire() -> Iterator[Namespace]:
    """Make the client's namespace, and delete it and the tap at the end."""
    with netns.namespace("client") as client:
        client.run("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
        netns.clients(client, TAP)
        yield client
