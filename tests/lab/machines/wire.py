"""The network of a machine's clients: a namespace with a tap interface.

The client owns the same addresses as in `netns.pair`, and the machine has those of its server
(`image`), so that `bots` talks to it. Needs root and /dev/net/tun.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lab.network import netns
from lab.network.netns import CLIENT4, CLIENT6, SOURCES4, SOURCES6, Namespace

#: The tap interface, which qemu opens inside the namespace.
TAP = "tap0"


@contextlib.contextmanager
def wire() -> Iterator[Namespace]:
    """Make the client's namespace, and delete it and the tap at the end."""
    with netns.namespace("client") as client:
        commands = (
            f"tuntap add dev {TAP} mode tap",
            f"address add {CLIENT4}/24 dev {TAP}",
            f"address add {CLIENT6}/64 dev {TAP} nodad",
            f"link set {TAP} up",
            f"route add local {SOURCES4} dev lo",
            f"route add local {SOURCES6} dev lo",
        )
        client.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")
        # bind() to an AnyIP address of IPv6 needs this; IPv4 has it from the route.
        client.call(Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text, "1")
        yield client
