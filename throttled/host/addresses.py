"""This host's addresses, gateways and resolvers, and word of their changes.

`Watch` owns a netlink socket; nothing else here owns state. Everything is of the network namespace
that the daemon runs in.
"""

import socket
from pathlib import Path

from throttled import address
from throttled.errors import HostError
from throttled.linux import rtnetlink

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
    return frozenset(_text(one.packed) for one in _addresses("own addresses"))


def connected() -> tuple[str, ...]:
    """Return the private networks that the interfaces are in: of containers, of a site.

    Raises:
        HostError: they cannot be read.
    """
    found = {
        address.text(address.mask(packed, prefix), prefix)
        for packed, prefix in _addresses("own networks")
        if prefix < len(packed) * 8
    }
    return tuple(sorted(filter(address.is_private, found)))


def _addresses(what: str) -> list[rtnetlink.Address]:
    """Return the addresses of all interfaces.

    Raises:
        HostError: they cannot be read; its message begins with `what`.
    """
    try:
        return list(rtnetlink.addresses())
    except OSError as error:
        raise HostError(f"{what}: {error}") from error


def _text(packed: bytes) -> str:
    return address.unpack(address.unmapped(packed))


def gateways() -> frozenset[str]:
    """Return the next hops of all default routes, of all routing tables.

    Raises:
        HostError: they cannot be read.
    """
    try:
        defaults = [route for route in rtnetlink.routes() if route.prefix == 0]
    except OSError as error:
        raise HostError(f"default routes: {error}") from error
    return frozenset(_text(hop) for route in defaults for hop in route.hops)


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
