"""What a fleet costs, and how fast it is: real daemons and a real Redis server at a UNIX socket.

The Redis server, the hosts and the clients share the processors of this machine. Owns nothing.
"""

import multiprocessing
import os
import signal
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from lab.figures import latency, publishers
from lab.figures.rig import Options, Row, addresses, latency_row, quantiles
from lab.fleet import server as lab
from lab.fleet.hosts import Host, acquainted, configured, hosts
from lab.fleet.peer import Peer
from lab.fleet.server import Server
from lab.network import netns
from lab.network.netns import Namespace

_BANS = 100_000
_OWN = 100  # own bans while catching up, at most
_SECONDS = 10.0
_TRIES = 3  # user names on each host
_NAMES = 10  # user names above which `auth-slow` bans
_NO_FLEET = 'site = ""'


class _Rig(NamedTuple):
    server: Server
    host: Host
    client: Namespace  # sends packets to the host


def _server(directory: Path, hosts: Sequence[str]) -> AbstractContextManager[Server]:
    """Run a Redis server that writes its data to the disk each second, as is usual."""
    return lab.server(directory, hosts, options=("--appendfsync", "everysec"))


@contextmanager
def _rig() -> Iterator[_Rig]:
    """Make a Redis server, and a host with a client that does not run yet."""
    with (
        netns.directory("fleet") as home,
        _server(home / "server", ("mx1", "mx2")) as server,
        netns.pair() as (where, client),
        configured(server, "mx2", where) as host,
    ):
        yield _Rig(server, host, client)


def fleet(options: Options) -> list[Row]:
    """Measure latency, catching up, an outage, and the Redis server's load."""
    return [
        _across(options.trials),
        *_catch_up(),
        _down(options.trials),
        _twenty(),
        _hundred(),
    ]


def _lines(host: Host) -> latency.Write:
    """Return what writes lines into the log of a host, as lines of that host."""
    name = f" {os.uname().nodename} "
    log = host.log.open("a", buffering=1)

    def write(text: str) -> None:
        log.write(text.replace(" mx ", name))

    return write


def _read(host: Host) -> None:
    size = host.log.stat().st_size

    def done() -> bool:
        tails = host.guard.status().tails
        return bool(tails) and tails[0].lag == 0 and host.log.stat().st_size == size

    netns.until(done, "the log is read", 120.0)


def _race(writer: Host, client: Namespace, sources: Sequence[str]) -> list[float]:
    """Return for each source the time from its last line on a host to its first packet dropped."""
    write = _lines(writer)
    for source in sources:
        latency.prepare(write, source)
    _read(writer)
    time.sleep(2.0)  # names tried are published once a second
    return [latency.measure(write, client, source) for source in sources]


def _across(trials: int) -> Row:
    """Log line on A → first packet dropped on B."""
    with (
        _rig() as at,
        netns.namespace("mx1") as where,
        configured(at.server, "mx1", where) as other,
    ):
        for host in (other, at.host):
            host.start()
        acquainted((other, at.host))
        values = _race(other, at.client, latency.sources(trials))
    return latency_row("fleet: log line on A → first drop on B", values, (4, 10))


# Catching up


def _catch_up() -> list[Row]:
    """Read 100,000 bans of a peer at the start, alone and with own bans meanwhile."""
    with _rig() as at:
        Peer(at.server, "mx1").ban(*addresses(_BANS // 2, each=250))
        at.host.process.start()
        at.host.guard.start()
        began, cpu = time.perf_counter(), at.host.guard.cpu()
        _caught_up(at.host, 120.0)
        seconds, cpu = time.perf_counter() - began, at.host.guard.cpu() - cpu
        kernel = _in_kernel(at.host)
    with _rig() as at:
        Peer(at.server, "mx1").ban(*addresses(_BANS // 2, each=250))
        at.host.guard.start()  # without its process: nothing comes yet
        write, sources = _lines(at.host), latency.sources(_OWN)
        for source in sources:
            latency.prepare(write, source)
        _read(at.host)
        at.host.process.start()
        netns.until(lambda: _number(at.host) is not None, "nothing of the peer comes", 30.0)
        own = []
        for source in sources:
            own.append(latency.measure(write, at.client, source))
            if _done(at.host):
                break
    median, p99 = quantiles(own)
    return [
        Row(
            f"fleet: {_BANS:,} bans of a peer caught up at a start",
            "≤ 3 s, all in the kernel",
            f"{seconds:.2f} s ({cpu:.2f} s of CPU), {kernel:,} in the kernel",
            seconds <= 3.0 and kernel >= _BANS,
            {"seconds": seconds, "cpu": cpu, "kernel": kernel},
        ),
        Row(
            "… own log line → first drop meanwhile",
            "p99 ≤ 25 ms",
            f"{median * 1e3:.1f} / {p99 * 1e3:.1f} ms ({len(own)} bans)",
            p99 <= 0.025,
            {"median": median, "p99": p99, "trials": len(own)},
        ),
    ]


def _number(host: Host) -> int | None:
    """Return the number of the last entry of mx1 that is processed; None: of none."""
    path = host.guard.home / "throttled.db"
    query = "SELECT state FROM position WHERE path = 'fleet:mx1'"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        row = database.execute(query).fetchone()
    return None if row is None else msgspec.msgpack.decode(row[0], type=tuple[str, int])[1]


def _done(host: Host) -> bool:
    number = _number(host)
    return number is not None and number >= -(-_BANS // 500)


def _caught_up(host: Host, seconds: float) -> None:
    netns.until(lambda: _done(host), "not caught up", seconds)


def _in_kernel(host: Host) -> int:
    """Return how many addresses the kernel bans."""
    found = 0
    for scope in ("mx", "submission"):
        words = ("nft", "-j", "list", "set", "inet", "throttled", f"{scope}_ban4")
        listed = msgspec.json.decode(host.guard.server.run(*words).stdout)
        found += sum(len(each.get("set", {}).get("elem", ())) for each in listed["nftables"])
    return found


# An outage


def _down(trials: int) -> Row:
    """Own log line → drop with the Redis server stopped, and without a fleet."""
    medians = {}
    for name in ("without", "stopped"):
        with _rig() as at:
            host = at.host
            if name == "without":
                text = host.guard.config.read_text()
                host.guard.config.write_text(text.replace('site = "lab"', _NO_FLEET))
                host.guard.start()
            else:
                host.start()
                host.connected()
                at.server.signal(signal.SIGSTOP)
            try:
                medians[name] = statistics.median(_race(host, at.client, latency.sources(trials)))
            finally:
                at.server.signal(signal.SIGCONT)
    ratio = medians["stopped"] / medians["without"]
    return Row(
        "fleet: own line → drop, Redis server stopped",
        "≤ 1.1 of without a fleet",
        f"{ratio:.2f} ({medians['stopped'] * 1e3:.2f} / {medians['without'] * 1e3:.2f} ms)",
        ratio <= 1.1,
        {"ratio": ratio, **medians},
    )


# Names tried on twenty hosts


def _twenty() -> Row:
    """Return how long after the name above the threshold a client is banned on 20 hosts."""
    names = [f"mx{n}" for n in range(20)]
    client, above = "198.18.0.9", _NAMES // _TRIES
    with (
        netns.directory("fleet") as home,
        _server(home / "server", names) as server,
        hosts(server, names) as found,
    ):
        acquainted(found)
        for number, host in enumerate(found):
            host.guess(client, *(f"user{number}-{n}@example.org" for n in range(_TRIES)))
            if number == above:
                written = time.time()
        seconds = max(_banned_at(host, client) for host in found) - written
    return Row(
        f"fleet: {_TRIES} names on each of {len(names)} hosts: banned on all after the last needed",
        "≤ 2 s",
        f"{seconds:.2f} s",
        seconds <= 2.0,
        {"seconds": seconds},
    )


def _banned_at(host: Host, client: str) -> float:
    """Return when a host banned a client, wall clock; wait until it does."""
    found: list[float] = []

    def banned() -> bool:
        found[:] = [r.since for r in host.guard.rows(client) if r.action == "ban"]
        return bool(found)

    netns.until(banned, f"{host.name} does not ban {client}", 30.0)
    return found[0]


# A hundred hosts


def _hundred() -> Row:
    """Return the Redis server's CPU with 100 hosts that publish 1,000 bans a second in all."""
    names = [f"mx{n}" for n in range(100)]
    with netns.directory("fleet") as home, _server(home / "server", names) as server:
        context = multiprocessing.get_context("spawn")
        halves = [names[:50], names[50:]]
        jobs = [
            context.Process(target=publishers.run, args=(str(server.socket), some, names))
            for some in halves
        ]
        for job in jobs:
            job.start()
        try:
            share, rate = _load(server, names)
        finally:
            for job in jobs:
                job.kill()
                job.join()
    return Row(
        "fleet: 100 hosts, 1,000 bans/s in all: the Redis server's CPU",
        "≤ 0.5 core",
        f"{share:.2f} core ({rate:,.0f} bans/s)",
        share <= 0.5 and rate >= 950,
        {"share": share, "rate": rate},
    )


def _load(server: Server, names: Sequence[str]) -> tuple[float, float]:
    """Return the Redis server's share of a core, and the bans a second."""
    about = psutil.Process(server.pid)
    netns.until(lambda: _bans(server) > 2 * len(names), "nobody publishes", 60.0)
    bans, cpu, began = _bans(server), _cpu(about), time.monotonic()
    time.sleep(_SECONDS)
    passed = time.monotonic() - began
    return (_cpu(about) - cpu) / passed, (_bans(server) - bans) / passed


def _bans(server: Server) -> int:
    """Return how many entries were added: each is a ban."""
    return int(server.ask("INFO", "commandstats").get("cmdstat_xadd", {}).get("calls", 0))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
