"""A flood of forged SYNs at a chosen rate, both versions of IP, from its own process.

Each comes from an address that nothing answers for, and looks new for six seconds; checksums are
right. The server needs a route to these addresses, or it would not answer (`reachable`).

    with flood(client, SERVER4, 25, rate=10_000): ...
    with flood(client, SERVER4, 25, rate=15, every=2.0): ...   # 30 at once every two seconds
"""

import contextlib
import ipaddress
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab.network.netns import CLIENT4, CLIENT6, Namespace
from lab.network.packets import TCP
from lab.network.spoof import segment

#: Addresses of the forged SYNs: not the client's, so that nothing answers the SYN-ACKs.
_NOBODY4, _NOBODY6 = "203.0.113.0/24", "2001:db8:dead::/48"


def reachable(server: Namespace) -> None:
    """Let a server's answers to forged SYNs go to the client's namespace, which ignores them."""
    server.run("ip", "route", "replace", _NOBODY4, "via", CLIENT4)
    server.run("ip", "route", "replace", _NOBODY6, "via", CLIENT6)


@contextlib.contextmanager
def flood(
    client: Namespace, target: str, port: int, rate: int, every: float = 0.0
) -> Iterator[None]:
    """Send so many a second for as long as the block lasts; it yields when the first are sent.

    Args:
        client: from where.
        target: the server.
        port: its.
        rate: SYNs a second.
        every: seconds between pulses, which begin at multiples of the boot clock; 0: evenly.
    """
    argv = [sys.executable, str(Path(__file__)), target, str(port), str(rate), str(every)]
    running = client.popen(argv, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)})
    try:
        assert running.stdout
        running.stdout.readline()
        yield
    finally:
        running.kill()
        running.communicate()


def packets(target: str, port: int, count: int) -> list[bytes]:
    """Return SYNs, with an IPv4 header; for IPv6 with the source address before each."""
    six = ":" in target
    network = ipaddress.ip_network(_NOBODY6 if six else _NOBODY4)
    to = ipaddress.ip_address(target).packed
    found = []
    for _ in range(count):
        bits = random.getrandbits(network.max_prefixlen - network.prefixlen)
        start = (int(network.network_address) + bits).to_bytes(len(to))
        syn = segment(start, to, random.randrange(1024, 65_536), port)
        if not six:
            syn = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, TCP, 0) + start + to + syn
            found.append(syn)
            continue
        found.append(struct.pack("!IHBB", 6 << 28, len(syn), TCP, 64) + start + to + syn)
    return found


def _main(target: str, port: int, rate: int, every: float) -> None:
    six = ":" in target
    family = socket.AF_INET6 if six else socket.AF_INET
    made = packets(target, port, 6 * rate)
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        begin, sent = time.monotonic(), 0
        print("sending", flush=True)
        while True:
            if every:
                boot = time.clock_gettime(time.CLOCK_BOOTTIME)
                time.sleep(every - boot % every)
                begin = time.monotonic() - sent / rate - every
            due = int((time.monotonic() - begin) * rate) - sent
            for _ in range(due):
                raw.sendto(made[sent % len(made)], (target, 0))
                sent += 1
            time.sleep(0.002)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
