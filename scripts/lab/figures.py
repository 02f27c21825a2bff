"""The figures of docs/performance.md: how each is measured, and what it must reach.

Each function makes its own lab, measures on the real daemon (or, where it says so, on one room of
it) and returns rows. Addresses of 100.64.0.0/10 are elements in sets and text in logs here; nothing
is ever sent to them. Owns nothing.
"""

import contextlib
import itertools
import json
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from lab import latency, logs, netns
from lab.daemon import THROTTLED, Daemon, daemon
from lab.netns import Namespace
from lab.postfix import Postfix, postfix
from throttled.enforce.nftables.backend import Nftables
from throttled.model import Action, Decision, Entry, Ruleset
from throttled.store.store import Store


class Options(NamedTuple):
    """How much is measured."""

    trials: int = 200
    bans: int = 1_000_000


class Row(Struct):
    """One figure."""

    what: str
    target: str
    measured: str
    ok: bool
    values: dict[str, float]


class _Bench(NamedTuple):
    server: Namespace
    client: Namespace
    mail: Postfix
    log: Path  # not Postfix's own: what the benchmark writes
    guard: Daemon


def addresses(count: int, each: int = 1) -> list[str]:
    """Return distinct addresses of 100.64.0.0/10, `each` of them in one /24."""
    numbers = itertools.product(range(64, 128), range(256), range(1, 1 + each))
    return [f"100.{a}.{b}.{c}" for a, b, c in itertools.islice(numbers, count)]


@contextlib.contextmanager
def _bench(*, start: bool = True) -> Iterator[_Bench]:
    """Make a server with a Postfix and a daemon that reads a log of ours."""
    with netns.pair() as (server, client), postfix(server) as mail:
        log = mail.log.with_name("bench.log")
        log.touch()
        more = f'[log]\nfiles = ["{log}"]\n[firewall]\nsize = 2_000_000\n'
        with daemon(server, mail.config, more) as guard:
            if start:
                guard.start()
            yield _Bench(server, client, mail, log, guard)


def _read(bench: _Bench, seconds: float = 120.0) -> None:
    """Wait until the daemon has read all of the log."""
    size = bench.log.stat().st_size

    def done() -> bool:
        (tail,) = bench.guard.status().tails
        return tail.lag == 0 and bench.log.stat().st_size == size

    netns.until(done, "the log is read", seconds)


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(values), sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def _latency_row(what: str, values: Sequence[float]) -> Row:
    median, p99 = _quantiles(values)
    return Row(
        what,
        "median ≤ 2 ms, p99 ≤ 10 ms",
        f"{median * 1e3:.2f} / {p99 * 1e3:.2f} ms",
        median <= 0.002 and p99 <= 0.010,
        {"median": median, "p99": p99, "max": max(values), "trials": len(values)},
    )


def _race(bench: _Bench, sources: Iterable[str]) -> list[float]:
    sources = list(sources)
    for source in sources:
        latency.prepare(bench.log, source)
    _read(bench)
    return [latency.measure(bench.log, bench.client, source) for source in sources]


def line_to_drop(options: Options) -> list[Row]:
    """Log line written → first packet dropped."""
    with _bench() as bench:
        values = _race(bench, latency.sources(options.trials))
    return [_latency_row("log line → first drop", values)]


def million(options: Options) -> list[Row]:
    """Start with a million stored bans, first with an empty kernel and then with a full one."""
    sources = latency.sources(min(options.trials, 400) + 100)
    held, first, second, rest = "198.19.255.77", sources[:50], sources[50:100], sources[100:]
    stored = [held, *addresses(options.bans - 1, each=250)]
    with _bench(start=False) as bench:
        _fill(bench.guard, stored)
        began = time.monotonic()
        bench.guard.start()
        ready = time.monotonic() - began
        empty = _race(bench, first)
        netns.until(lambda: _restored(bench), "all bans are in the kernel", 300.0)
        enforced = time.monotonic() - began
        sample = random.sample(stored, 1000)
        lost = len(sample) - _in_kernel(bench, sample)
        _idle(bench)
        steady = _race(bench, rest)
        with _answers(bench, held) as heard:
            bench.guard.stop(60.0)
            began = time.monotonic()
            bench.guard.start()
            again = time.monotonic() - began
            full = _race(bench, second)
            _idle(bench)
            settled = time.monotonic() - began
    many = f"{options.bans:,} bans"
    return [
        Row(
            f"start, {many} stored, kernel empty",
            "all enforced ≤ 15 s",
            f"{enforced:.1f} s, ready after {ready:.1f} s",
            enforced <= 15.0 and not lost,
            {"enforced": enforced, "ready": ready, "lost": lost},
        ),
        _meanwhile_row("… a new ban meanwhile", empty),
        _latency_row(f"log line → first drop, {many}", steady),
        Row(
            f"restart, {many} in the kernel",
            "protected throughout",
            f"{len(heard)} answers, ready after {again:.1f} s",
            not heard,
            {"answers": len(heard), "ready": again, "settled": settled},
        ),
        _meanwhile_row("… a new ban meanwhile", full),
    ]


def _meanwhile_row(what: str, values: Sequence[float]) -> Row:
    median, p99 = _quantiles(values)
    return Row(
        what,
        "p99 ≤ 25 ms",
        f"{median * 1e3:.1f} / {p99 * 1e3:.1f} ms",
        p99 <= 0.025,
        {"median": median, "p99": p99, "max": max(values), "trials": len(values)},
    )


def _idle(bench: _Bench, seconds: float = 300.0) -> None:
    """Wait until the daemon has nothing more to do: a second with less than 5 % of CPU."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = bench.guard.cpu()
        time.sleep(1.0)
        if bench.guard.cpu() - before < 0.05:
            return
    raise TimeoutError(f"the daemon is not idle within {seconds:g} s")


def _fill(guard: Daemon, subjects: Sequence[str]) -> None:
    """Store a ban of 12 hours for each subject."""
    store = Store.open(str(guard.home / "throttled.db"))
    now = time.time()
    for at in range(0, len(subjects), 20_000):
        some = subjects[at : at + 20_000]
        until, why = now + 43_200.0, "50 points in 10m, 51 allowed"
        store.record(
            now, [Decision(now, "ban", each, "mx", "errors", 4, until, why) for each in some]
        )
    store.close()


def _restored(bench: _Bench) -> bool:
    """Tell whether the daemon said that everything is in the kernel."""
    return "elements put into the kernel" in bench.guard.log.read_text()


@contextlib.contextmanager
def _answers(bench: _Bench, source: str) -> Iterator[list[float]]:
    """Probe from a banned client while the block runs; the list holds when it was answered."""
    probe = latency.Probe(bench.client, source)
    heard: list[float] = []
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.005):
            if probe.answered():
                heard.append(time.monotonic())

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        probe.close()


def _in_kernel(bench: _Bench, subjects: Sequence[str], action: Action = "ban") -> int:
    """Return how many of the subjects the kernel holds, asking the kernel itself."""
    with bench.server.entered():
        return len(Nftables().lookup([Entry(each, "mx", action, 1.0) for each in subjects]))


def replay(_: Options) -> list[Row]:
    """Read, parse, count and decide a flood log of a million lines."""
    with netns.directory("replay") as home:
        log = home / "flood.log"
        rates, memory = [], []
        for lines in (100_000, 1_000_000):
            _write(log, logs.flood(addresses(20_000, each=5), lines, time.time() - 7200, 1000))
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
    """Return the seconds of CPU that a command takes, and the bytes it had at its peak."""
    output = home / "output"
    script = (
        "import json, resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'w')).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))\n"
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
    with _bench() as bench:
        idle = bench.guard.memory()
        with bench.log.open("a") as log:
            for source in addresses(clients, each=250):
                head = f"{logs.stamp(time.time())} mx postfix/smtpd[77]:"
                log.write(f"{head} connect from unknown[{source}]\n")
                log.write(f"{head} disconnect from unknown[{source}] helo=1 quit=1 commands=2\n")
        _read(bench)
        tracked = bench.guard.status().clients
        each = (bench.guard.memory() - idle) / tracked
    return [
        Row("memory, idle", "≤ 60 MB", f"{idle / 1e6:.1f} MB", idle <= 60_000_000, {"bytes": idle}),
        Row(
            f"memory of a client, {tracked:,} tracked",
            "≤ 500 bytes",
            f"{each:.0f} bytes",
            each <= 500 and tracked >= clients,
            {"bytes": each, "tracked": tracked},
        ),
    ]


def offenders(_: Options) -> list[Row]:
    """A log with 10,000 offenders appears at once; and the kernel's part of it alone."""
    sources = addresses(10_000)
    with _bench() as bench:
        users = [f"u{n}" for n in range(latency.BEFORE + 1)]
        text = "".join(logs.guesses(each, users, logs.stamp(time.time())) for each in sources)
        began = time.monotonic()
        with bench.log.open("a") as log:
            log.write(text)
        netns.until(lambda: _in_kernel(bench, sources[-1:]) == 1, "the last is banned", 120.0)
        netns.until(lambda: _in_kernel(bench, sources) == len(sources), "all are banned", 120.0)
        seconds = time.monotonic() - began
    alone = _apply_seconds(len(sources))
    return [
        Row(
            "10,000 offenders in a log at once",
            "in the kernel ≤ 2 s",
            f"{seconds:.2f} s",
            seconds <= 2.0,
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
    with _bench() as bench:
        before = bench.guard.cpu()
        with bench.log.open("a") as log:
            log.writelines(_rounds(sources, 200_000))
        _read(bench)
        netns.until(lambda: _in_kernel(bench, sources) == len(sources), "all are banned", 120.0)
        used = bench.guard.cpu() - before
    return [
        Row(
            "200,000 flood lines, 5,000 offenders banned",
            "≤ 2 s of CPU",
            f"{used:.2f} s",
            used <= 2.0,
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
    """What one ban costs, with few and with many in place: the backend alone."""
    with netns.namespace("ban") as where, where.entered():
        backend = _backend()
        few = _one_ban(backend, 1_000)
        many = _one_ban(backend, options.bans)
    return [
        Row(
            f"one ban with {options.bans:,} in place / with 1,000",
            "ratio ≤ 1.5",
            f"{many / few:.2f} ({few * 1e3:.3f} → {many * 1e3:.3f} ms)",
            many / few <= 1.5,
            {"few": few, "many": many},
        )
    ]


def _one_ban(backend: Nftables, there: int) -> float:
    """Fill up to so many bans and return the median seconds of one more."""
    subjects = addresses(there, each=250)
    for at in range(0, there, 50_000):
        backend.apply([Entry(each, "mx", "ban", 3600.0) for each in subjects[at : at + 50_000]])
    times = []
    for n in range(500):
        entry = Entry(f"198.18.{n // 250}.{n % 250}", "mx", "ban", 3600.0)
        start = time.perf_counter()
        backend.apply([entry])
        times.append(time.perf_counter() - start)
        backend.apply([Entry(entry.subject, "mx", "ban", 0.0)])
    return statistics.median(times)


def _apply_seconds(count: int) -> float:
    """Return the seconds in which the backend puts so many bans in force."""
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
    "million": million,
    "replay": replay,
    "memory": memory,
    "offenders": offenders,
    "flood": flood,
    "ban": ban,
}
