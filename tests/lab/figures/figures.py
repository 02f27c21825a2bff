"""The figures of docs/performance.md: how each is measured, and what it must reach.

Each function makes its own lab, measures on the real daemon (or, where it says so, on one room of
it) and returns rows. Owns nothing.
"""

import compileall
import contextlib
import itertools
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import throttled
from lab.daemon.daemon import THROTTLED, daemon
from lab.figures import latency
from lab.figures.asked import asked
from lab.figures.besieged import besieged
from lab.figures.compare import compare
from lab.figures.damage import damage
from lab.figures.drops import drops
from lab.figures.fleet import fleet
from lab.figures.million import million
from lab.figures.overload import overload
from lab.figures.rates import rates
from lab.figures.rig import (
    Options,
    Row,
    addresses,
    in_kernel,
    latency_row,
    quantiles,
    race,
    read,
    rig,
)
from lab.figures.sensed import sensed
from lab.figures.spray import spray
from lab.mail import logs
from lab.mail.journald import SOCKET, Journald, private_mounts
from lab.mail.postfix import Lab, lab
from lab.network import netns
from throttled.enforce.backend import Ruleset
from throttled.enforce.nftables.backend import Nftables
from throttled.model import Entry


def line_to_drop(options: Options) -> list[Row]:
    """Log line written → first packet dropped, beside the least that this can cost here."""
    sources = latency.sources(options.trials)
    with lab() as at:
        least = _floor(at, sources)
    with rig() as made:
        values = race(made, sources)
    median, p99 = quantiles(least)
    floor = Row(
        "the least: inotify and one netlink message",
        "",
        f"{median * 1e3:.2f} / {p99 * 1e3:.2f} ms",
        ok=True,
        values={"median": median, "p99": p99},
    )
    row = latency_row("log line → first drop", values)
    row.target = "median ≤ 2 x, p99 ≤ 5 x the median of the least"
    ratios = row.values["median"] / median, row.values["p99"] / median
    row.measured += " ({:.1f} x, {:.1f} x)".format(*ratios)
    row.ok = ratios[0] <= 2 and ratios[1] <= 5
    return [floor, row]


def _floor(at: Lab, sources: Sequence[str]) -> list[float]:
    """Return for each source the time that the least program takes from its last line to a drop."""
    path = at.mail.log.with_name("floor.log")
    path.touch()
    program = Path(__file__).with_name("floor.py")
    argv = [sys.executable, str(program), str(path), *sources]
    with path.open("a", buffering=1) as log, contextlib.ExitStack() as stack:
        process = stack.enter_context(at.server.popen(argv, stdout=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout
        process.stdout.readline()
        return [latency.measure(log.write, at.client, source) for source in sources]


def journal(options: Options) -> list[Row]:
    """Line given to a real systemd-journald → first packet dropped."""
    with ThreadPoolExecutor(1, initializer=private_mounts) as thread:
        values = thread.submit(_by_journal, latency.sources(options.trials)).result()
    return [latency_row("line to journald → first drop", values, (15, 50))]


def _by_journal(sources: Sequence[str]) -> list[float]:
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(netns.directory("journald"))
        journald = Journald(home)
        journald.start("RateLimitIntervalSec=0")
        stack.callback(journald.stop)
        syslog = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        syslog.connect(SOCKET)

        def write(text: str) -> None:
            for line in text.splitlines():  # as syslog(3) does: a priority, and no host
                syslog.send(b"<22>" + line.replace(" mx ", " ", 1).encode())

        server, client, mail = stack.enter_context(lab())
        more = "[log]\nfiles = []\njournal = true\n"
        guard = stack.enter_context(daemon(server, mail.config, more))
        guard.start()
        for source in sources:
            latency.prepare(write, source)
        lines = len(sources) * (3 + latency.BEFORE)
        netns.until(lambda: guard.status().tails[0].lines >= lines, "the journal is read", 120.0)
        return [latency.measure(write, client, source) for source in sources]


def replay(_: Options) -> list[Row]:
    """Read, parse, count and decide a flood log of a million lines."""
    with netns.directory("replay") as home:
        log = home / "flood.log"
        rates, memory = [], []
        for lines in (100_000, 1_000_000):
            _write(log, logs.flood(addresses(5_000, each=5), lines, time.time() - 7200, 1000))
            count = sum(1 for _ in log.open())
            seconds, peak = _timed([THROTTLED, "replay", "--json", str(log)], home)
            rates.append(count / seconds)
            memory.append(peak)
    rate = rates[-1]
    growth = memory[1] / memory[0]
    return [
        Row(
            "replay of a flood log, 1,000,000 lines",
            "≥ 200,000 lines/s",
            f"{rate:,.0f} lines/s",
            rate >= 200_000,
            {"rate": rate},
        ),
        Row(
            "its memory, ten times the lines",
            "flat",
            f"{memory[0] / 1e6:.0f} → {memory[1] / 1e6:.0f} MB",
            growth < 1.5,
            {"small": memory[0], "large": memory[1]},
        ),
    ]


def _timed(argv: Sequence[str], home: Path) -> tuple[float, int]:
    """Return the seconds that a command takes, and the bytes that its largest process had."""
    output = home / "output"
    script = (
        "import json, resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "code = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'w')).returncode\n"
        "seconds = time.perf_counter() - began\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(json.dumps([code, seconds, peak]))\n"
    )
    done = subprocess.run(
        ["python3", "-c", script, str(output), *argv],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    code, seconds, peak = json.loads(done.stdout)
    if code != 0:
        raise RuntimeError(f"{' '.join(argv)}: {code}: {done.stderr}")
    return seconds, peak


def _write(log: Path, sessions: Iterable[str]) -> None:
    with log.open("w") as file:
        file.writelines(sessions)


def memory(_: Options) -> list[Row]:
    """Resident memory, idle and with 100,000 clients tracked."""
    clients = 100_000
    with rig() as at:
        idle = at.guard.memory()
        with at.log.open("a") as log:
            for source in addresses(clients, each=250):
                head = f"{logs.stamp(time.time())} mx postfix/smtpd[77]:"
                log.write(f"{head} connect from unknown[{source}]\n")
                log.write(f"{head} disconnect from unknown[{source}] helo=1 quit=1 commands=2\n")
        read(at)
        tracked = at.guard.status().clients
        each = (at.guard.memory() - idle) / tracked
    return [
        Row("memory, idle", "≤ 45 MB", f"{idle / 1e6:.1f} MB", idle <= 45_000_000, {"bytes": idle}),
        Row(
            f"memory of a client, {tracked:,} tracked",
            "≤ 500 bytes",
            f"{each:.0f} bytes",
            each <= 500 and tracked >= clients,
            {"bytes": each, "tracked": tracked},
        ),
    ]


def starts(_: Options) -> list[Row]:
    """From the start of the daemon until it protects, and the commands used most: medians of 5."""
    compileall.compile_dir(
        str(Path(throttled.__file__).parent), quiet=1
    )  # as where it is installed
    times: dict[str, list[float]] = {}
    with rig(start=False) as at:
        for _number in range(5):
            times.setdefault("start to protecting", []).append(_seconds(at.guard.start))
            for argv in (["status"], ["list"], ["unban", "198.51.100.99"]):
                run = partial(at.guard.command, *argv)
                times.setdefault(f"throttled {argv[0]}", []).append(_seconds(run))
            at.guard.stop()
    medians = {what: statistics.median(each) for what, each in times.items()}
    limits = dict.fromkeys(medians, 0.25) | {"start to protecting": 0.5}
    return [
        Row(
            what,
            f"≤ {limits[what]:g} s",
            f"{seconds:.2f} s",
            seconds <= limits[what],
            {"seconds": seconds},
        )
        for what, seconds in medians.items()
    ]


def _seconds(step: Callable[[], object]) -> float:
    """Return how long a step takes."""
    began = time.monotonic()
    step()
    return time.monotonic() - began


def offenders(_: Options) -> list[Row]:
    """A log with 10,000 offenders appears at once; and the kernel's part of it alone."""
    sources = addresses(10_000)
    with rig() as at:
        users = [f"u{n}" for n in range(latency.BEFORE + 1)]
        text = "".join(logs.guesses(each, users, logs.stamp(time.time())) for each in sources)
        began = time.monotonic()
        with at.log.open("a") as log:
            log.write(text)
        netns.until(lambda: in_kernel(at, sources[-1:]) == 1, "the last is banned", 120.0)
        netns.until(lambda: in_kernel(at, sources) == len(sources), "all are banned", 120.0)
        seconds = time.monotonic() - began
    alone = _apply_seconds(len(sources))
    return [
        Row(
            "10,000 offenders in a log at once",
            "in the kernel ≤ 0.8 s",
            f"{seconds:.2f} s",
            seconds <= 0.8,
            {"seconds": seconds},
        ),
        Row(
            "… decision → kernel",
            "≤ 0.3 s",
            f"{alone:.3f} s",
            alone <= 0.3,
            {"seconds": alone},
        ),
    ]


def flood(_: Options) -> list[Row]:
    """What 200,000 flood lines with 5,000 offenders cost the daemon."""
    sources = addresses(5_000)
    with rig() as at:
        before = at.guard.cpu()
        with at.log.open("a") as log:
            log.writelines(_rounds(sources, 200_000))
        read(at)
        netns.until(lambda: in_kernel(at, sources) == len(sources), "all are banned", 120.0)
        used = at.guard.cpu() - before
    return [
        Row(
            "200,000 flood lines, 5,000 offenders banned",
            "≤ 0.9 s of CPU",
            f"{used:.2f} s",
            used <= 0.9,
            {"seconds": used},
        )
    ]


def _rounds(sources: Sequence[str], lines: int) -> Iterator[str]:
    """Yield sessions of guessing, each source in turn, until there are so many lines."""
    count = 0
    for number in itertools.count():
        for source in sources:
            users = [f"u{number}x{n}" for n in range(3)]
            yield logs.guesses(source, users, logs.stamp(time.time()))
            count += 3 + len(users)
            if count >= lines:
                return


def ban(options: Options) -> list[Row]:
    """What one ban costs, with few and with many in place: the backend alone, both in turn."""
    times: dict[int, list[float]] = {1_000: [], options.bans: []}
    with contextlib.ExitStack() as stack:
        backends = {there: _filled(stack, there) for there in times}
        for n in range(1_000):
            entry = Entry(f"198.18.{n // 250}.{n % 250}", "mx", "ban", 3600.0)
            for there, backend in backends.items():
                start = time.perf_counter()
                backend.apply([entry])
                times[there].append(time.perf_counter() - start)
    few, many = (statistics.median(each) for each in times.values())
    return [
        Row(
            f"one ban with {options.bans:,} in place / with 1,000",
            "ratio ≤ 1.5",
            f"{many / few:.2f} ({few * 1e3:.3f} → {many * 1e3:.3f} ms)",
            many / few <= 1.5,
            {"few": few, "many": many},
        )
    ]


def _filled(stack: contextlib.ExitStack, there: int) -> Nftables:
    """Return a backend that holds so many bans, in a namespace of its own."""
    where = stack.enter_context(netns.namespace("ban"))
    subjects = addresses(there, each=250)
    with where.entered():  # its sockets stay there
        backend = _backend()
        for at in range(0, there, 50_000):
            backend.apply([Entry(each, "mx", "ban", 3600.0) for each in subjects[at : at + 50_000]])
    return backend


def _apply_seconds(count: int) -> float:
    """Return the seconds in which the backend applies so many bans."""
    entries = [Entry(each, "mx", "ban", 3600.0) for each in addresses(count)]
    with netns.namespace("apply") as where, where.entered():
        backend = _backend()
        start = time.perf_counter()
        backend.apply(entries)
        return time.perf_counter() - start


def _backend() -> Nftables:
    """Return a backend with its rules in place in the namespace that was entered."""
    backend = Nftables()
    backend.setup(Ruleset({"mx": (25,)}, (), rate=10, per=60.0, burst=10, size=2_000_000))
    return backend


FIGURES: dict[str, Callable[[Options], list[Row]]] = {
    "latency": line_to_drop,
    "journal": journal,
    "million": million,
    "million-xdp": partial(million, backend="xdp"),
    "replay": replay,
    "memory": memory,
    "start": starts,
    "offenders": offenders,
    "flood": flood,
    "ban": ban,
    "rates": rates,
    "besieged": besieged,
    "damage": damage,
    "spray": spray,
    "drops": drops,
    "sensor": sensed,
    "policy": asked,
    "overload": overload,
    "fleet": fleet,
    "rivals": compare,
}
