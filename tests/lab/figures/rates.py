"""How fast each backend bans, singly and in batches, with few and with many in place.

Each backend is alone in a namespace; the last row of each compares what one ban costs among a
million with what it costs among a thousand. Owns nothing.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from unittest.mock import patch

from lab.figures.rig import Options, Row, addresses
from lab.machine.bpffs import bpffs
from lab.machine.legacy import legacy_path
from lab.network import netns
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.registry import choose
from throttled.enforce.xdp import backend as xdp
from throttled.model import Entry

NAMES = ("nftables", "iptables", "xdp")
_RULESET = Ruleset({"mx": (25,)}, (), rate=10, per=60.0, burst=10, size=2_000_000)
_SINGLES, _BATCH = 500, 1_000


def rates(options: Options) -> list[Row]:
    """Bans a second of each backend: singly and by the thousand."""
    return [row for name in NAMES for row in _rates(name, options.bans)]


def _install(name: str, count: int) -> Backend:
    """Set a backend up in the namespace that was entered, with so many bans; return it."""
    backend = choose(name)
    backend.setup(_RULESET)
    _ban(backend, addresses(count, each=250))
    return backend


def _ban(backend: Backend, subjects: Sequence[str]) -> None:
    """Ban subjects on port 25, 50,000 at a time.

    Raises:
        RuntimeError: not all could be.
    """
    for at in range(0, len(subjects), 50_000):
        some = [Entry(each, "mx", "ban", 3600.0) for each in subjects[at : at + 50_000]]
        if failed := backend.apply(some).failed:
            raise RuntimeError(f"{backend.name}: {failed[0]}")


def _rates(name: str, most: int) -> Iterator[Row]:
    costs = {}
    for there in sorted({1_000, 100_000, most}):
        with _alone():
            backend = _install(name, there)
            fresh = iter(_fresh())
            singly = statistics.median(_seconds(backend, [next(fresh)]) for _ in range(_SINGLES))
            batches = [[next(fresh) for _ in range(_BATCH)] for _ in range(20)]
            together = statistics.median(_seconds(backend, batch) for batch in batches)
            backend.teardown()
        costs[there] = singly
        yield Row(
            f"bans a second: {name}, {there:,} in place",
            "-",
            f"{1 / singly:,.0f} /s singly, {_BATCH / together:,.0f} /s by the thousand",
            ok=True,
            values={"singly": 1 / singly, "together": _BATCH / together},
        )
    ratio = costs[most] / costs[1_000]
    yield Row(
        f"{name}, one ban with {most:,} / 1,000",
        "ratio ≤ 1.5",
        f"{ratio:.2f}",
        ratio <= 1.5,
        {"ratio": ratio},
    )


def _fresh() -> list[str]:
    return [f"198.18.{n // 250}.{n % 250 + 1}" for n in range(_SINGLES + 20 * _BATCH)]


def _seconds(backend: Backend, subjects: Sequence[str]) -> float:
    entries = [Entry(each, "mx", "ban", 3600.0) for each in subjects]
    start = time.perf_counter()
    backend.apply(entries)
    return time.perf_counter() - start


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Enter a namespace in which every backend can work."""
    with (
        bpffs() as pins,
        legacy_path() as path,
        patch.object(xdp, "PINS", pins / netns.unique("xdp")),
        patch.dict(os.environ, PATH=path),
        netns.namespace("rates") as where,
        where.entered(),
    ):
        yield
