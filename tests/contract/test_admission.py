"""Admission control: each means in turn, with real connections in namespaces."""

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from lab.network import flood
from lab.network.grouped import listen
from lab.network.netns import SERVER4, SERVER6, Namespace, cgroup, pair, until
from lab.network.spoof import spoof
from throttled.enforce import sockets
from throttled.enforce.admission.protocol import Admission, AdmissionLimits
from throttled.enforce.admission.registry import MEANS
from throttled.enforce.iptables.ipsets import Ipsets
from throttled.enforce.registry import teardown

pytestmark = pytest.mark.root

#: Seconds in which a dropped SYN is not answered, and not yet repeated by the client's kernel.
SHORT = 0.5
KNOWN = ("198.18.200.9", "198.18.201.0/24", "2001:db8:b:200::9", "2001:db8:b:201::/64")
FRIENDS = ("198.18.200.9", "198.18.201.77", "2001:db8:b:200::9", "2001:db8:b:201::77")


class Host:
    """A server with two listeners in a control group, and clients."""

    def __init__(self, server: Namespace, client: Namespace, group: Path, stack: ExitStack) -> None:
        self.server, self.client, self.group = server, client, group
        self.listeners = [
            stack.enter_context(listen(server, group, address, port))
            for address in (SERVER4, SERVER6)
            for port in (25, 80)
        ]
        self._stack = stack
        self._numbers = count()
        self.admission: Admission

    def connect(self, source: str, port: int = 25, seconds: float = SHORT) -> bool:
        """Return whether a client's connection is established; it stays open."""
        target = SERVER6 if ":" in source else SERVER4
        try:
            made = self.client.connect(source, target, port, seconds)
        except TimeoutError:
            return False
        self._stack.enter_context(made)
        return True

    def begin(self, source: str) -> None:
        """Send a client's SYN, and wait for nothing."""
        with self.client.entered():
            made = self._stack.enter_context(socket.socket())
        made.bind((source, 0))
        made.setblocking(False)
        with pytest.raises(BlockingIOError):
            made.connect((SERVER4, 25))

    def stranger(self, version: int = 4) -> str:
        """Return an address in a network that no one else is in."""
        number = next(self._numbers)
        return f"198.18.{number}.7" if version == 4 else f"2001:db8:b:{number:x}::7"

    def opened(self) -> int:
        """Return the open connections, by inet_diag."""
        return len(self.server.call(sockets.opened, (25,)))

    def correct(self) -> None:
        """Let the means know what is open, as the daemon does some times a second."""
        self.server.call(self.admission.correct, self.opened())

    def limit(self, **limits: float) -> None:
        """Use other limits."""
        self.server.call(self.admission.limit, AdmissionLimits(**limits))  # type: ignore[arg-type]

    def greet(self) -> None:
        """Send the greeting to one client, as smtpd does."""
        for listener in self.listeners:
            listener.setblocking(False)
            try:
                made, _ = listener.accept()
            except BlockingIOError:
                continue
            self._stack.enter_context(made).sendall(b"220 mx ESMTP\r\n")

    def end_sessions(self) -> None:
        """Accept and close all that is open, and wait for the end of it."""
        for listener in self.listeners:
            listener.setblocking(False)
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    break
        until(lambda: not self.opened(), "all sessions have ended")
        self.correct()


Make = Callable[..., Host]


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    with pair() as (server, client):
        flood.reachable(server)
        yield server, client


@pytest.fixture(params=list(MEANS))
def make(request: pytest.FixtureRequest, ends: tuple[Namespace, Namespace]) -> Iterator[Make]:
    """Give a function that makes a host and starts the means."""
    with cgroup("admission") as group, ExitStack() as stack:

        def made(*, lease: float = 60.0, before: int = 0, **limits: float) -> Host:
            host = Host(*ends, group, stack)
            assert all(host.connect(host.stranger()) for _ in range(before))
            host.admission = MEANS[request.param](lease)
            stack.callback(ends[0].call, host.admission.stop)
            given = AdmissionLimits(**limits)  # type: ignore[arg-type]
            ends[0].call(host.admission.start, (25,), given, KNOWN)
            return host

        yield made


@pytest.mark.parametrize("version", [4, 6])
def test_strangers_have_at_most_the_cap_open(make: Make, version: int) -> None:
    host = make(cap=6)
    assert all(host.connect(host.stranger(version)) for _ in range(6))
    host.correct()
    assert not host.connect(host.stranger(version))
    assert not host.connect(host.stranger(10 - version))
    counts = host.server.call(host.admission.counts)
    assert counts.dropped_cap >= 2
    host.end_sessions()
    assert host.connect(host.stranger(version))


def test_strangers_have_no_more_than_the_places_open(make: Make) -> None:
    """As many as Postfix has processes for; the cap is above."""
    host = make(cap=60, places=3)
    assert all(host.connect(host.stranger()) for _ in range(3))
    host.correct()
    assert not host.connect(host.stranger())
    assert host.connect(FRIENDS[0])
    assert host.server.call(host.admission.counts).dropped >= 1
    host.limit(cap=60, places=4 + len(FRIENDS))
    assert host.connect(host.stranger())


def test_known_clients_are_always_admitted_and_never_counted(make: Make) -> None:
    host = make(cap=1)
    assert all(host.connect(friend) for friend in FRIENDS * 2)
    assert host.connect(host.stranger())
    host.server.call(host.admission.correct, 1)
    assert not host.connect(host.stranger())
    assert all(host.connect(friend) for friend in FRIENDS * 2)


def test_known_clients_come_and_go(make: Make) -> None:
    host = make(cap=0)
    late, network = host.stranger(), "198.18.90.0/24"
    six = host.stranger(6)
    assert not host.connect(late)
    host.server.call(host.admission.add_known, [late, six, network])
    host.server.call(host.admission.add_known, [late])
    assert all(map(host.connect, (late, six, "198.18.90.1")))
    host.server.call(host.admission.remove_known, [late, six, network, "192.0.2.1"])
    assert not any(map(host.connect, (late, six, "198.18.90.2")))


def test_other_ports_are_not_looked_at(make: Make) -> None:
    host = make(cap=0)
    assert all(host.connect(host.stranger(version), 80) for version in (4, 6))
    assert host.server.call(host.admission.counts).dropped == 0


def test_without_dropping_it_only_counts(make: Make) -> None:
    host = make(cap=0, dropping=False)
    assert all(host.connect(host.stranger(version)) for version in (4, 6))
    assert host.server.call(host.admission.counts).dropped == 2
    host.limit(cap=0)
    assert not any(host.connect(host.stranger(version)) for version in (4, 6))


@pytest.mark.parametrize("version", [4, 6])
def test_a_network_has_its_turn(make: Make, version: int) -> None:
    host = make(cap=50, turn=300)
    first, other = host.stranger(version), host.stranger(version)
    neighbour = first[:-1] + "8"
    assert host.connect(first)
    host.greet()
    assert not host.connect(neighbour)
    assert host.connect(other)
    assert host.server.call(host.admission.counts).dropped_turn >= 1
    host.limit(cap=50)
    assert host.connect(neighbour)


@pytest.mark.parametrize("version", [4, 6])
def test_a_network_may_have_to_wait(make: Make, version: int) -> None:
    """As long as there are turns; means that are not exact do not know of it."""
    host = make(cap=50, turn=1)
    source = host.stranger(version)
    host.server.call(host.admission.postpone, [ipaddress.ip_address(source).packed], 60.0)
    assert host.connect(source[:-1] + "8") is not host.admission.exact
    assert host.connect(host.stranger(version))
    counts = host.server.call(host.admission.counts)
    assert (counts.dropped_turn > 0) is host.admission.exact
    host.limit(cap=50)
    assert host.connect(source)


def test_a_network_that_connects_several_times_at_once_waits_as_many_turns(make: Make) -> None:
    """Their SYNs came before the first handshake was complete."""
    host = make(cap=50, turn=1)
    source = host.stranger()
    host.client.run("nft", "add table inet late")
    host.client.run("nft", "add chain inet late in { type filter hook input priority 0; }")
    host.client.run("nft", "add rule inet late in tcp sport 25 drop")
    for _ in range(4):
        host.begin(source)
    host.client.run("nft", "delete table inet late")
    until(lambda: host.opened() == 4, "the kernel sent its answers again")
    begin = time.monotonic()
    assert host.connect(source[:-1] + "8", seconds=30)
    if host.admission.exact:
        assert time.monotonic() - begin > 2.5


def test_forged_syns_use_up_no_turn(make: Make) -> None:
    host = make(cap=50, turn=300)
    source = host.stranger()
    spoof(host.client, [source], SERVER4, 25, 3)
    assert host.connect(source[:-1] + "8")


def test_the_pace(make: Make) -> None:
    """Fifty SYNs at once: some get through in the first 100 ms, or two such times."""
    host = make(cap=100, pace=4)
    for _ in range(50):
        host.begin(host.stranger())
    assert 1 <= host.opened() <= 12
    counts = host.server.call(host.admission.counts)
    assert counts.dropped_pace >= 38
    until(lambda: host.opened() > 12, "the kernel sent some again")


def test_who_is_not_renewed_admits_everybody(make: Make) -> None:
    host = make(cap=0, lease=2.0)
    assert not host.connect(host.stranger())
    host.server.call(host.admission.renew)
    assert not host.connect(host.stranger())
    assert host.connect(host.stranger(), seconds=30)
    assert host.connect(host.stranger(6))
    host.server.call(host.admission.renew)
    assert not host.connect(host.stranger())


def test_stopped_it_admits_everybody(make: Make) -> None:
    host = make(cap=0)
    assert not host.connect(host.stranger())
    host.server.call(host.admission.stop)
    host.server.call(host.admission.stop)
    assert all(host.connect(host.stranger(version)) for version in (4, 6))
    host.server.call(host.admission.start, (25,), AdmissionLimits(cap=0), KNOWN)
    assert not host.connect(host.stranger())
    assert host.connect(FRIENDS[0])


def test_left_where_no_one_stores_it_everybody_is_admitted(make: Make) -> None:
    host = make(cap=0)
    assert not host.connect(host.stranger())
    host.server.call(host.admission.leave)
    assert host.connect(host.stranger())


def test_what_was_open_before_counts(make: Make) -> None:
    host = make(cap=6, before=6)
    assert host.server.call(host.admission.counts).open in (6, 0)  # 0: cannot count
    assert not host.connect(host.stranger())


@pytest.mark.parametrize("version", [4, 6])
def test_newcomers_get_in_during_a_flood_of_forged_syns(make: Make, version: int) -> None:
    host = make(cap=80, pace=8, places=10)
    target = SERVER4 if version == 4 else SERVER6
    friends = [each for each in FRIENDS if (":" in each) == (version == 6)]
    with flood.flood(host.client, target, 25, 10_000):
        for _ in range(6):
            assert all(host.connect(friend) for friend in friends)
            assert host.connect(host.stranger(version), seconds=30)  # before a lease expires


def test_forged_syns_that_come_in_pulses_are_learnt_from_too(make: Make) -> None:
    """In every other second, as many as fill the places."""
    host, found = make(cap=80, pace=20, places=10), []
    with flood.flood(host.client, SERVER4, 25, 15, every=2.0):
        begin = boot()
        begin += 2.2 - begin % 2
        for number in range(6):
            until(lambda at=begin + 2 * number: boot() > at, "a pulse has come")  # type: ignore[misc]
            found.append(host.connect(host.stranger()))
            host.end_sessions()
    assert all(found[3:]), found


def boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_dropped_networks_are_known_or_not(make: Make) -> None:
    host = make(cap=0)
    sources = [host.stranger(), host.stranger(6)]
    assert not any(map(host.connect, sources))
    networks = host.server.call(host.admission.delayed_networks, 10)
    assert networks in (
        [],
        [("198.18.0.0/24", 1), ("2001:db8:b:1::/64", 1)],
        [("2001:db8:b:1::/64", 1), ("198.18.0.0/24", 1)],
    )
    assert host.server.call(host.admission.delayed_networks, 1) == networks[:1]


def test_a_purge_removes_what_a_killed_daemon_left(make: Make) -> None:
    host = make(cap=0)
    clean, errors = host.server.call(teardown)
    assert errors == []
    assert {"nftables", "iptables"} <= set(clean)
    left = host.server.run("nft", "list", "tables").stdout
    for program in ("iptables-legacy", "ip6tables-legacy"):
        left += host.server.run(program, "-w", "-t", "raw", "-S").stdout
    assert "throttled" not in left
    assert "thra" not in left
    names = host.server.call(lambda: Ipsets().names())
    assert not [name for name in names if name.startswith("thr")]
