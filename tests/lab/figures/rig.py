"""What the benchmarks stand on: a server with a daemon that reads a log of ours, and rows.

Addresses of 100.64.0.0/10 are elements in sets and text in logs; nothing is ever sent to them.
Owns nothing.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from lab.daemon.daemon import Daemon, daemon
from lab.figures import latency
from lab.machine.bpffs import bpffs, within
from lab.mail.postfix import Postfix, lab
from lab.network import netns
from lab.network.netns import Namespace
from throttled.enforce.backend import Backend
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.xdp.backend import Xdp
from throttled.model import Entry


class Options(NamedTuple):
    """How much is measured."""

    trials: int = 200
    bans: int = 1_000_000
    only: str = ""  # of overload: runs whose name has this in it
    short: bool = False  # of overload: a selection of runs, each a short one


class Row(Struct):
    """One figure."""

    what: str
    target: str
    measured: str
    ok: bool
    values: dict[str, float]


class Rig(NamedTuple):
    """A server, its clients, and a daemon that reads a log of ours."""

    server: Namespace
    client: Namespace
    mail: Postfix
    log: Path  # not Postfix's own: what the benchmark writes
    guard: Daemon
    backend: Backend  # to ask the kernel by, in the server's namespace


def addresses(count: int, each: int = 1) -> list[str]:
    """Return distinct addresses of 100.64.0.0/10, `each` of them in one /24."""
    numbers = itertools.product(range(64, 128), range(256), range(1, 1 + each))
    return [f"100.{a}.{b}.{c}" for a, b, c in itertools.islice(numbers, count)]


@contextlib.contextmanager
def rig(*, start: bool = True, backend: Literal["nftables", "xdp"] = "nftables") -> Iterator[Rig]:
    """Make a server with a Postfix and a daemon that reads a log of ours."""
    with lab() as made, bpffs() as mounted:
        log = made.mail.log.with_name("bench.log")
        log.touch()
        firewall = f'[firewall]\nsize = 2_000_000\nbackend = "{backend}"\n'
        more = f'[log]\nfiles = ["{log}"]\n{firewall}'
        kernel = Xdp(pins=mounted / "throttled") if backend == "xdp" else Nftables()
        with daemon(made.server, made.mail.config, more) as guard:
            guard.within = within(mounted)
            if start:
                guard.start()
            yield Rig(*made, log, guard, kernel)


def read(at: Rig, seconds: float = 120.0) -> None:
    """Wait until the daemon has read all of the log."""
    size = at.log.stat().st_size

    def done() -> bool:
        (tail,) = at.guard.status().tails
        return tail.lag == 0 and at.log.stat().st_size == size

    netns.until(done, "the log is read", seconds)


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(values), sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def idle(at: Rig, seconds: float = 300.0) -> None:
    """Wait until the daemon has nothing more to do: a second with less than 5 % of CPU."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = at.guard.cpu()
        time.sleep(1.0)
        if at.guard.cpu() - before < 0.05:
            return
    raise TimeoutError(f"the daemon is not idle within {seconds:g} s")


def in_kernel(at: Rig, subjects: Sequence[str]) -> int:
    """Return how many of the subjects the kernel holds, asking the kernel itself."""
    with at.server.entered():
        return len(at.backend.lookup([Entry(each, "mx", "ban", 1.0) for each in subjects]))


def latency_row(what: str, values: Sequence[float], most: tuple[int, int] = (2, 10)) -> Row:
    """Return a row of times from a log line to the first packet dropped.

    Args:
        what: was measured.
        values: in seconds.
        most: what median and 99th percentile must stay within, in milliseconds.
    """
    median, p99 = quantiles(values)
    return Row(
        what,
        "median ≤ {} ms, p99 ≤ {} ms".format(*most),
        f"{median * 1e3:.2f} / {p99 * 1e3:.2f} ms",
        median * 1e3 <= most[0] and p99 * 1e3 <= most[1],
        {"median": median, "p99": p99, "max": max(values), "trials": len(values)},
    )


def race(at: Rig, sources: Sequence[str]) -> list[float]:
    """Return for each source the time from its last log line to its first packet dropped."""
    with at.log.open("a", buffering=1) as log:
        for source in sources:
            latency.prepare(log.write, source)
        read(at)
        return [latency.measure(log.write, at.client, source) for source in sources]
