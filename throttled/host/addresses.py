"""This host's addresses, gateways and resolvers, and word of their changes.

`Watch` owns a netlink socket; nothing else here owns state. Everything is of the network namespace
that the daemon runs in.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from throttled import address
from throttled.errors import HostError

# rtnetlink(7), linux/rtnetlink.h: the multicast groups of links, addresses and routes
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

#: Read at a time, and at most so often, so that a router's table in motion cannot hold us.
_CHUNK = 65536
_MOST_READS = 64


def own() -> frozenset[str]:
    """Return the addresses of all interfaces.

    Raises:
        HostError: they cannot be read.
    """
    return frozenset(address.canonical(text) for text, _ in _interfaces("own addresses"))


def connected() -> tuple[str, ...]:
    """Return the private networks that the interfaces are in: of containers, of a site.

    Raises:
        HostError: they cannot be read.
    """
    found = {
        address.text(address.mask(packed, prefix), prefix)
        for text, netmask in _interfaces("own networks")
        if netmask
        for packed, prefix in [_network(text, netmask)]
        if prefix < len(packed) * 8
    }
    return tuple(sorted(filter(address.is_private, found)))


def _interfaces(what: str) -> list[tuple[str, str | None]]:
    """Return the addresses of all interfaces, without their zones, and the netmasks.

    Raises:
        HostError: they cannot be read; its message begins with `what`.
    """
    try:
        interfaces = psutil.net_if_addrs()
    except OSError as error:
        raise HostError(f"{what}: {error}") from error
    return [
        (one.address.partition("%")[0], one.netmask)
        for addresses in interfaces.values()
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6)
    ]


def _network(text: str, netmask: str) -> tuple[bytes, int]:
    """Return an address, packed, and the length of its network's prefix."""
    return address.pack(text), int.from_bytes(address.pack(netmask)).bit_count()


def gateways() -> frozenset[str]:
    """Return the next hops of all default routes, of all routing tables.

    Raises:
        HostError: they cannot be read.
    """
    # In a thread of its own: pyroute2 runs an event loop, and the caller may be inside another.
    with ThreadPoolExecutor(1) as executor:
        try:
            return executor.submit(_gateways).result()
        except (OSError, NetlinkError) as error:
            raise HostError(f"default routes: {error}") from error


def _gateways() -> frozenset[str]:
    hops: set[str | None] = set()
    with IPRoute() as routes:
        for route in routes.get_routes():
            if route["dst_len"] == 0:
                for hop in (route, *(route.get_attr("RTA_MULTIPATH") or ())):
                    hops.add(hop.get_attr("RTA_GATEWAY"))
                    hops.add((hop.get_attr("RTA_VIA") or {}).get("addr"))  # IPv4 by way of IPv6
    return frozenset(address.canonical(hop) for hop in hops if hop)


def resolvers(path: str = "/etc/resolv.conf") -> frozenset[str]:
    """Return the name servers of a resolv.conf(5).

    Raises:
        HostError: it cannot be read.
    """
    try:
        with Path(path).open(errors="replace") as file:
            lines = file.read(_CHUNK).splitlines()
    except OSError as error:
        raise HostError(f"resolvers: {error}") from error
    found = set()
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.add(address.canonical(words[1].partition("%")[0]))
            except ValueError:
                continue  # the C library ignores it too
    return frozenset(found)


class AddressWatch:
    """A descriptor that becomes readable when a link, an address or a route changes."""

    def __init__(self) -> None:
        """Subscribe.

        Raises:
            HostError: the kernel refuses.
        """
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            self._socket.close()
            raise HostError(f"changes of addresses: {error}") from error

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read what there is and return whether anything changed. Returns soon, whatever comes."""
        changed = False
        for _ in range(_MOST_READS):
            try:
                self._socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: there was more than the kernel kept for us
                pass
            changed = True
        return changed

    def close(self) -> None:
        """Unsubscribe."""
        self._socket.close()
