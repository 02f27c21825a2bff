"""Figures of starting with a million bans, in the store and in the kernel.

Measured on the real daemon, whose database is filled before it starts. Owns nothing.
"""

import random
import time
from collections.abc import Sequence
from typing import Literal

from lab.daemon.daemon import Daemon
from lab.figures import latency
from lab.figures.rig import (
    Options,
    Rig,
    Row,
    addresses,
    idle,
    in_kernel,
    latency_row,
    quantiles,
    race,
    rig,
)
from lab.network import netns
from throttled.model import Decision
from throttled.store.store import Store


def million(options: Options, backend: Literal["nftables", "xdp"] = "nftables") -> list[Row]:
    """Start with a million stored bans, first with an empty kernel and then with a full one."""
    sources = latency.sources(min(options.trials, 400) + 100)
    probe, first, second, rest = "198.19.255.77", sources[:50], sources[50:100], sources[100:]
    stored = [probe, *addresses(options.bans - 1, each=250)]
    with rig(start=False, backend=backend) as at:
        fill(at.guard, stored)
        began = time.monotonic()
        at.guard.start()
        ready = time.monotonic() - began
        empty = race(at, first)
        netns.until(lambda: restored(at), "all bans are in the kernel", 300.0)
        enforced = time.monotonic() - began
        sample = random.sample(stored, 1000)
        lost = len(sample) - in_kernel(at, sample)
        idle(at)
        steady = race(at, rest)
        with latency.knocking(at.client, probe, 0.005) as heard:
            at.guard.stop(60.0)
            began = time.monotonic()
            at.guard.start()
            again = time.monotonic() - began
            full = race(at, second)
            idle(at)
            settled = time.monotonic() - began
    many = f"{options.bans:,} bans" + (" (XDP)" if backend == "xdp" else "")
    return [
        Row(
            f"start, {many} stored, kernel empty",
            "all enforced ≤ 15 s",
            f"{enforced:.1f} s, ready after {ready:.1f} s",
            enforced <= 15.0 and not lost,
            {"enforced": enforced, "ready": ready, "lost": lost},
        ),
        _meanwhile_row("… a new ban meanwhile", empty),
        latency_row(f"log line → first drop, {many}", steady),
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
    median, p99 = quantiles(values)
    return Row(
        what,
        "p99 ≤ 25 ms",
        f"{median * 1e3:.1f} / {p99 * 1e3:.1f} ms",
        p99 <= 0.025,
        {"median": median, "p99": p99, "max": max(values), "trials": len(values)},
    )


def fill(guard: Daemon, subjects: Sequence[str]) -> None:
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


def restored(at: Rig) -> bool:
    """Return whether the daemon said that everything is in the kernel."""
    return "elements in the kernel" in at.guard.log.read_text()
