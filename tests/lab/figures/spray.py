"""Measurements of a flood from more clients than can be remembered: memory, and who is evicted.

Distinct clients with a line of each kind that is counted, half of them of one sprayed IPv6 /48;
before them a sender that delivers, and after them offends like they do. Runs the pipeline that the
daemon runs, without a kernel, with the default caps, in this process.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import psutil

from lab.figures.rig import Options, Row
from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

_GOOD = "198.51.100.25"
_AT_ONCE = 20_000
_START = 1_800_000_000.0
_PER_SECOND = 50_000.0  # clients, by the log's clock: two million within a window of 40 s


def spray(options: Options) -> list[Row]:
    """Count ten times as many clients as `--bans` says: ten million."""
    clients = options.bans * 10
    store = Store.open(":memory:")
    kernel = DryRun()
    kernel.setup(Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 100_000))
    pipeline = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, _START))
    for day in range(2):
        _feed(pipeline, [_delivers(_GOOD)] * 5, _START + day * 86400)
    resident: list[int] = []
    began = time.monotonic()
    for at in range(0, clients, _AT_ONCE):
        lines = [line for n in range(at, min(clients, at + _AT_ONCE)) for line in _offends(n)]
        _feed(pipeline, lines, _START + 86400 + at / _PER_SECOND)
        if at % (clients // 10) < _AT_ONCE:
            resident.append(psutil.Process().memory_info().rss)
    seconds = time.monotonic() - began
    end = _START + 86400 + clients / _PER_SECOND
    session = f"connect from x[{_GOOD}]", f"warning: non-SMTP command from x[{_GOOD}]: GET /"
    decisions = _feed(pipeline, session * 11, end)
    sizes = pipeline.engine.sizes()
    half, last = resident[len(resident) // 2], resident[-1]
    spared = [d.action for d in decisions if d.subject == _GOOD] == ["throttle"]
    return [
        Row(
            f"{clients:,} distinct clients, half of an IPv6 /48",
            "memory flat: last ≤ 1.1 of half-way",
            f"{' '.join(f'{each / 2**20:.0f}' for each in resident)} MB, {seconds:.0f} s, "
            f"{sizes['clients']:,} tracked, {sizes['dropped']:,} forgotten early",
            last <= 1.1 * half,
            {"half": half, "last": last, "seconds": seconds, **sizes},
        ),
        Row(
            "… who delivered before and offends after it",
            "throttled, not banned",
            "throttled" if spared else "not so",
            spared,
            {"spared": float(spared)},
        ),
    ]


def _offends(number: int) -> Iterator[str]:
    """Yield lines of one client: connects, guesses, garbage."""
    if number % 2:
        client = f"2001:db8:b:{number >> 17:x}::{number & 0x1FFFF:x}"
    else:
        client = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        client = f"{198 + (number >> 24 & 1)}.{client[3:]}"
    yield f"connect from unknown[{client}]"
    yield f"warning: unknown[{client}]: SASL LOGIN authentication failed: x, sasl_username=a"
    yield f"warning: non-SMTP command from unknown[{client}]: GET /"


def _delivers(client: str) -> str:
    return f"disconnect from mx.example.com[{client}] ehlo=1 mail=1 rcpt=1 data=1 commands=4"


def _feed(pipeline: Pipeline, lines: Sequence[str], at: float) -> list[Decision]:
    """Let lines arrive, written at that moment."""
    now = Moment(at, at)
    stamp = f"{datetime.fromtimestamp(at, UTC).isoformat()} mx postfix/smtpd[7]: "
    pipeline.counting.read([stamp + line for line in lines], [0] * len(lines), now)
    decisions, _spared = pipeline.settle(now)
    pipeline.recorder.record(now)
    return decisions
