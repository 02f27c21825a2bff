"""Figures of a firewall that somebody damages while many bans are in it.

Measured on the real daemon. The one who knocks was banned last: who was active last is put back
first. Owns nothing.
"""

import time
from collections.abc import Iterator, Sequence

from lab.figures import latency
from lab.figures.million import fill, restored
from lab.figures.rig import Options, Rig, Row, addresses, idle, rig
from lab.network import netns

_BANNED, _OTHER = "198.19.255.77", "198.19.255.78"

_DAMAGE = {
    "all flushed": "flush ruleset",
    "a chain emptied": "flush chain inet throttled prerouting",
    "an element removed": f"delete element inet throttled mx_ban4 {{ {_BANNED} }}",
    "a set emptied": "flush set inet throttled mx_ban4",
}


def damage(options: Options) -> list[Row]:
    """Damage a table of 1,000, of 100,000 and of many bans; and flush it twice."""
    return [row for bans in (1_000, 100_000, options.bans) for row in _damaged(bans)]


def _damaged(bans: int) -> Iterator[Row]:
    with rig(start=False) as at:
        fill(at.guard, [*addresses(bans - 2, each=250), _OTHER, _BANNED])
        at.guard.start()
        netns.until(lambda: restored(at), "all bans are in the kernel", 300.0)
        for what, commands in _DAMAGE.items():
            yield _row(at, f"{what}, {bans:,} bans", [commands])
        yield _row(at, f"flushed, and again after 0.5 s, {bans:,} bans", ["flush ruleset"] * 2)


def _row(at: Rig, what: str, commands: Sequence[str]) -> Row:
    idle(at)
    with latency.knocking(at.client, _BANNED) as heard:
        for number, each in enumerate(commands):
            if number:
                time.sleep(0.5)
            at.server.run("nft", "-f", "-", stdin=each, seconds=120.0)
        began = time.monotonic()
        slowest = 0.0
        while True:
            asked = time.monotonic()
            status = at.guard.status()
            slowest = max(slowest, time.monotonic() - asked)
            if status.enforced == status.desired and time.monotonic() - began > 0.5:
                break
            time.sleep(0.01)
        whole = time.monotonic() - began
    last = [each for each in heard if each > began - 1.0]
    was_open = last[-1] - last[0] if last else 0.0
    if len(commands) > 1 and last:
        was_open = last[-1] - began
    return Row(
        what,
        "protected again < 1 s",
        f"{was_open * 1e3:.0f} ms, all of it {whole:.1f} s, status ≤ {slowest * 1e3:.0f} ms",
        was_open < 1.0,
        {"open": was_open, "whole": whole, "slowest": slowest},
    )
