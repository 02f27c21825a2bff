"""What it costs to drop a packet, by each means, under one flood on one processor.

Frames come out of BPF's live-frames mode at one end of a wire and are dropped at the other, all on
the processor that this thread is bound to; only rounds count in which a method dropped every single
one, by its own counter. What generator and wire cost is measured with a program at the other end
that does nothing but drop, and subtracted. Owns nothing.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from lab.figures.rig import Options, Row
from lab.machine.bpffs import bpffs
from lab.network.netns import SERVER4, Namespace, directory, pair
from lab.network.packets import syn
from lab.programs.bpf_runs import transmit
from throttled.bpf.libbpf import ATTACH_XDP, XDP_NATIVE, Object, Program
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.iptables.backend import Iptables
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.xdp.backend import Xdp
from throttled.model import Entry

_FIRST = "198.18.0.1"
_BANNED = 10_000
_RULESET = Ruleset({"mx": (25,)}, (), rate=10, per=60.0, burst=10, size=100_000)
#: Rounds of about 20 ms: short enough to be left alone in some of them.
_ROUNDS, _NANOSECONDS = 60, 20_000_000

#: How many packets have been dropped, as a method itself counts them.
Counter = Callable[[], int]


class Wire(NamedTuple):
    """Where the flood comes from, and where it goes to."""

    server: Namespace
    client: Namespace
    frame: bytes
    ifindex: int  # in the client's namespace
    scratch: Path
    pins: Path


class Cost(NamedTuple):
    """Of one method."""

    name: str
    rate: float  # packets/s, with the generator and the wire
    nanoseconds: float  # a packet, with the generator and the wire


def drops(_: Options) -> list[Row]:
    """Packets/s and ns per packet dropped: XDP, nftables, ipset, a rule per address."""
    with _wire() as at, _one_processor():
        alone = _measure(at, "the generator alone", _BANNED, _nothing, program="waste")
        floor = _measure(at, "generator and wire", _BANNED, _sink)
        costs = [
            _measure(at, name, banned, method)
            for name, banned, method in (
                ("XDP, native", _BANNED, partial(_ours, Xdp("native", at.pins / "native"))),
                ("XDP, generic", _BANNED, partial(_ours, Xdp("generic", at.pins / "generic"))),
                ("nftables", _BANNED, partial(_ours, Nftables())),
                ("our iptables backend", _BANNED, partial(_ours, Iptables())),
                ("iptables + ipset", _BANNED, _ipset),
                ("1,000 iptables rules", 1_000, _rules),
                ("10,000 iptables rules", _BANNED, _rules),
            )
        ]
    by_name = {each.name: each for each in costs}
    ratio = by_name["XDP, native"].rate / by_name["iptables + ipset"].rate
    generic = by_name["XDP, generic"].rate / by_name["iptables + ipset"].rate
    rows = [
        _row("to send and to drop at once", floor, alone),
        *(_row(f"dropping: {each.name}", each, floor) for each in costs),
    ]
    what = "XDP against iptables + ipset, packets/s"
    said = f"{ratio:.1f} times; generic {generic:.1f}"
    values = {"native": ratio, "generic": generic}
    return [*rows, Row(what, "≥ 2 times", said, ratio >= 2, values)]


def _row(what: str, cost: Cost, without: Cost) -> Row:
    own = cost.nanoseconds - without.nanoseconds
    said = f"{cost.rate / 1e6:.3f} M packets/s; {own:,.0f} ns each"
    values = {"rate": cost.rate, "nanoseconds": own}
    return Row(what, "", said, ok=True, values=values)


# The flood


@contextlib.contextmanager
def _wire() -> Iterator[Wire]:
    with pair() as (server, client), bpffs() as pins, directory("drops") as scratch:
        addresses = [end.call(_address, "eth0") for end in (server, client)]
        for end in (server, client):
            end.call(_gro, "eth0")
        frame = syn(_FIRST, SERVER4, macs=b"".join(addresses))
        ifindex = client.call(socket.if_nametoindex, "eth0")
        yield Wire(server, client, frame, ifindex, scratch, pins)


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Bind this thread to the last processor: the first one has more interrupts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _measure(
    at: Wire,
    name: str,
    banned: int,
    method: Callable[[Wire, int], contextlib.AbstractContextManager[Counter | None]],
    program: str = "send",
) -> Cost:
    """Flood a method in many short rounds; the fastest counts, which no neighbour interrupted."""
    generator = _generator(at.scratch, banned).program(program)

    with method(at, banned) as dropped:

        def flood(count: int) -> int:
            """Return the nanoseconds a packet took; none where the wire lost one."""
            before = dropped() if dropped else 0
            elapsed = at.client.call(transmit, generator, at.frame, at.ifindex, count)
            return elapsed if not dropped or dropped() - before == count else 0

        once = next(filter(None, (flood(banned) for _ in range(_ROUNDS))))
        count = banned * max(1, _NANOSECONDS // (once * banned))  # each source as often
        rounds = [elapsed for _ in range(_ROUNDS) if (elapsed := flood(count))]
        if len(rounds) < _ROUNDS // 2:
            raise RuntimeError(f"{name}: not all that came was dropped")
    return Cost(name, 1e9 / min(rounds), min(rounds))


def _generator(scratch: Path, sources: int) -> Object:
    """Compile and load the generator for so many sources."""
    machines = Path("/usr/include").glob("*-linux-gnu*/asm/types.h")
    headers = [word for found in machines for word in ("-idirafter", str(found.parent.parent))]
    made = scratch / f"generator-{sources}.o"
    defines = (f"-DFIRST={int(IPv4Address(_FIRST))}", f"-DSOURCES={sources}")
    source = Path(__file__).with_name("generator.c")
    subprocess.run(
        ("clang", "-target", "bpf", "-O2", "-g", *defines, *headers, "-c", source, "-o", made),
        check=True,
    )
    loaded = Object(made)
    loaded.load()
    return loaded


def _sources(count: int) -> list[str]:
    first = IPv4Address(_FIRST)
    return [str(first + n) for n in range(count)]


# The methods


@contextlib.contextmanager
def _nothing(_: Wire, __: int) -> Iterator[None]:
    yield None


@contextlib.contextmanager
def _sink(at: Wire, banned: int) -> Iterator[None]:
    program: Program = _generator(at.scratch, banned).program("sink")
    with at.server.entered():
        link = program.attach(socket.if_nametoindex("eth0"), ATTACH_XDP, XDP_NATIVE)
        yield None
        link.detach()


@contextlib.contextmanager
def _ours(backend: Backend, at: Wire, banned: int) -> Iterator[Counter]:
    with at.server.entered():
        backend.setup(_RULESET)
        applied = backend.apply([Entry(each, "mx", "ban", 3600.0) for each in _sources(banned)])
        assert not applied.failed
        try:
            yield backend.dropped
        finally:
            backend.teardown()


@contextlib.contextmanager
def _ipset(at: Wire, banned: int) -> Iterator[Counter]:
    create = "create bans hash:ip timeout 3600 maxelem 100000\n"
    adds = "".join(f"add bans {each}\n" for each in _sources(banned))
    at.server.run("ipset", "restore", stdin=create + adds)
    rule = [
        "INPUT",
        "-p",
        "tcp",
        "--dport",
        "25",
        "-m",
        "set",
        "--match-set",
        "bans",
        "src",
        "-j",
        "DROP",
    ]
    at.server.run("iptables-legacy", "-w", "-A", *rule)
    yield partial(_counted, at, "INPUT")
    at.server.run("iptables-legacy", "-w", "-F")
    at.server.run("ipset", "destroy", "bans")


@contextlib.contextmanager
def _rules(at: Wire, banned: int) -> Iterator[Counter]:
    """As fail2ban does by default (iptables-multiport), but for DROP instead of REJECT."""
    lines = ["*filter", ":f2b-postfix - [0:0]"]
    lines += ["-A INPUT -p tcp -m multiport --dports 25,465,587 -j f2b-postfix"]
    lines += [f"-A f2b-postfix -s {each}/32 -j DROP" for each in _sources(banned)]
    at.server.run("iptables-legacy-restore", "-w", stdin="\n".join([*lines, "COMMIT", ""]))
    yield partial(_counted, at, "f2b-postfix")
    at.server.run("iptables-legacy", "-w", "-F")
    at.server.run("iptables-legacy", "-w", "-X")


def _counted(at: Wire, chain: str) -> int:
    """Return the packets that the rules of a chain have dropped."""
    listed = at.server.run("iptables-legacy", "-w", "-nvxL", chain).stdout.splitlines()
    return sum(int(line.split()[0]) for line in listed if " DROP " in line)


# The interfaces

_SIOCETHTOOL, _SIOCGIFHWADDR = 0x8946, 0x8927  # linux/sockios.h
_ETHTOOL_SGRO = 0x2C  # linux/ethtool.h


def _gro(name: str) -> None:
    """Let an end of a veth take frames of XDP: without GRO it has no queue for them."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 1))
    request = struct.pack("@16sP16x", name.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)


def _address(name: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer: bytes = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("@16s24x", name.encode()))
    return answer[18:24]
