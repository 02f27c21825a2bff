"""A host that a backend guards, and what reaches it.

A client of many addresses, the guarded server, and behind the server a host that it forwards to.
Everything of the backend runs in the server's namespace, which the calling thread has entered.
"""

import contextlib
import errno
import itertools
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lab.network.netns import (
    CLIENT4,
    CLIENT6,
    DEADMAN,
    SERVER4,
    SERVER6,
    Namespace,
    namespace,
    pair,
    source_socket,
    until,
)
from lab.network.packets import ip6, opening
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.memory import Memory
from throttled.enforce.registry import choose

#: Behind the server: it forwards to it, and mail for it is none of its business.
INSIDE4 = "203.0.113.1"
PORTS = (25, 587, 2525)
#: A client that no test bans or throttles.
_WITNESS6 = "2001:db8:b::ffff"

_RCVBUFFORCE = 33  # asm-generic/socket.h

#: A throttled subject may open three sessions, and no more as long as a test lasts.
RULESET = Ruleset(
    ports={"mx": (25,), "submission": (587,)},
    protected=(CLIENT4, CLIENT6),
    rate=1,
    per=86400.0,
    burst=3,
    size=1000,
)

Ends = tuple[socket.socket, socket.socket]


@dataclass
class Wire:
    """The namespaces, and a listener for each address and port."""

    server: Namespace
    client: Namespace
    listeners: dict[tuple[str, int], socket.socket]


@dataclass
class Host:
    """A guarded host."""

    backend: Backend
    wire: Wire
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def session(self, source: str, port: int = 25, target: str = "") -> Ends | None:
        """Open a session and return its client's and its server's end; None: it was dropped."""
        target = target or (SERVER6 if ":" in source else SERVER4)
        before = self.backend.dropped()
        sock = self.opened.enter_context(self.wire.client.call(source_socket, source))
        sock.setblocking(False)
        sock.connect_ex((target, port))
        until(
            lambda: select.select([], [sock], [], 0)[1] or self.backend.dropped() > before,
            f"the SYN of {source} was answered or dropped",
        )
        if self.backend.dropped() > before:
            sock.close()
            return None
        peer, _ = self.wire.listeners[target, port].accept()
        return sock, self.opened.enter_context(peer)

    def refused(self, source: str, port: int = 587, target: str = "") -> bool:
        """Return whether a new connection is refused; else it is dropped.

        Raises:
            AssertionError: it came about, or failed otherwise.
        """
        before = self.backend.dropped()
        with self.wire.client.call(source_socket, source) as sock:
            sock.setblocking(False)
            sock.connect_ex((target or (SERVER6 if ":" in source else SERVER4), port))
            until(lambda: self.backend.dropped() > before, f"the SYN of {source} was judged")
            # A reset comes at once, or not at all: the kernel repeats a SYN after a second.
            answered = bool(select.select([], [sock], [], 0.5)[1])
            assert (
                not answered
                or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            )
            return answered

    def arrives(self, source: str, port: int = 25, target: str = "") -> bool:
        """Return whether a session of a source comes about; it is closed again."""
        ends = self.session(source, port, target)
        for end in ends or ():
            end.close()
        return ends is not None

    def answers(self, *connections: Sequence[bytes]) -> list[bool]:
        """Return of each connection whether the server answers the packets that open it.

        Args:
            connections: the IPv6 packets of each, from port 1024 and so on, one after the other.
        """
        last = 1024 + len(connections)
        end = ip6(_WITNESS6, SERVER6, opening(_WITNESS6, SERVER6, last))
        found = set()
        with (
            self.wire.client.entered(),
            socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
            socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP) as heard,
        ):
            heard.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 24)  # for all answers
            for packet in (*itertools.chain(*connections), end):
                raw.sendto(packet, (SERVER6, 0))
            heard.settimeout(DEADMAN)
            while last not in found:  # answers come in the order of the packets
                found.add(int.from_bytes(heard.recv(100)[2:4]))
        return [1024 + number in found for number in range(len(connections))]


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """Make the namespaces and the listeners."""
    with pair() as (server, client), namespace("inside") as inside, contextlib.ExitStack() as stack:
        for argv in (
            f"ip link add in0 type veth peer eth0 netns {inside.name}",
            "ip address add 203.0.113.254/24 dev in0",
            "ip link set in0 up",
            "sysctl -qw net.ipv4.ip_forward=1",
        ):
            server.run(*argv.split())
        for argv in (
            f"ip address add {INSIDE4}/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default via 203.0.113.254",
        ):
            inside.run(*argv.split())
        client.run(*f"ip route add {INSIDE4} via {SERVER4}".split())
        server.wired("in0")
        inside.wired("eth0")
        places = ((server, SERVER4), (server, SERVER6), (inside, INSIDE4))
        listeners = {
            (address, port): stack.enter_context(place.listen(address, port))
            for place, address in places
            for port in PORTS
        }
        yield Wire(server, client, listeners)


@contextlib.contextmanager
def guarded(name: str, on: Wire, ruleset: Ruleset = RULESET) -> Iterator[Host]:
    """Enter the server's namespace and guard it by a backend, which leaves nothing at the end."""
    with on.server.entered():
        backend = choose(name)
        backend.setup(ruleset)
        host = Host(backend, on)
        try:
            with host.opened:
                yield host
        finally:
            backend.teardown()


def another(backend: Backend) -> Backend:
    """Return another object for the same kernel, or for none."""
    return type(backend)() if isinstance(backend, Memory) else choose(backend.name)
