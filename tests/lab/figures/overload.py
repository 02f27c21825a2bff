"""Bots from thousands of addresses against Postfix: what known good clients and newcomers feel.

Each row is a run of its own Postfix and daemon: bots (`lab.mail.swarm`), a known good server with a
message every 0.25 s, newcomers with a mail server's retries, a user on port 587. Beside the rows
with the daemon stand a quiet one and those without. Owns nothing.
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from lab.daemon.daemon import Daemon, daemon
from lab.figures.rig import Options, Row, quantiles
from lab.mail.postfix import Lab, lab
from lab.mail.swarm import Report, Swarm
from lab.mail.visitors import KNOWN, Visitors, Visits
from lab.network.netns import until
from throttled.control.overload import OverloadStatus
from throttled.model import Evidence
from throttled.store.store import Store

_DAY = 86400.0
_KINDS = ("quit", "rcpt", "silent")
_COUNTS = (1_000, 5_000, 20_000)
_RATE, _SECONDS = 500.0, 40.0
#: Seconds of the attack that do not count for the worst delay: until the cap is reached.
_FIRST = 1.0


class Attack(NamedTuple):
    """What the bots do."""

    kind: str = "rcpt"
    rate: float = _RATE
    count: int = 5_000
    version: int = 4
    seconds: float = _SECONDS


class Outcome(Struct):
    """What became of a run."""

    known: Visits
    newcomers: Visits
    user: Visits
    bots: Report | None
    cpu: float  # of Postfix, in cores
    daemon: float  # of the daemon, in cores
    status: list[OverloadStatus]


def overload(_: Options) -> list[Row]:
    """Measure each kind of bots from 1,000, 5,000 and 20,000 addresses."""
    quiet = _alone()
    bare = _alone(Attack(seconds=20.0))
    rows = [
        _known("overload: rcpt, 5,000 addresses, without the daemon", bare, quiet)._replace_ok()
    ]
    return rows


@contextlib.contextmanager
def besieged(at: Lab, version: int = 4, more: str = "") -> Iterator[Daemon]:
    """Start a daemon that knows the known good server, and has begun to limit strangers."""
    with daemon(at.server, at.mail.config, more) as guard:
        known_good(guard, KNOWN[version])
        guard.start()
        until(lambda: any(row.means for row in guard.status().overload), "strangers are limited")
        yield guard


def known_good(guard: Daemon, *addresses: str) -> None:
    """Write into the store that addresses delivered mail on two days."""
    with contextlib.closing(Store.open(str(guard.home / "throttled.db"))) as store:
        now = time.time()
        for at in (now - 2 * _DAY, now - _DAY):
            store.record(now, (), [Evidence(address, at, 3) for address in addresses])


def attack(at: Lab, guard: Daemon | None, how: Attack | None, patience: float = 0.0) -> Outcome:
    """Let bots and honest clients come.

    Args:
        at: the lab.
        guard: a daemon that runs.
        how: what the bots do; None: there are none.
        patience: seconds for which newcomers that wait are waited for, while the bots go on.
    """
    seconds = 10.0 if how is None else how.seconds
    version = 4 if how is None else how.version
    cpu, used, began = at.mail.cpu(), guard.cpu() if guard else 0.0, time.monotonic()
    with contextlib.ExitStack() as stack:
        swarm = None
        if how is not None:
            swarm = Swarm(at.client, how.kind, how.rate, seconds + patience, how.count, version)
            stack.callback(swarm.end)
        visitors = {
            kind: Visitors(at.client, kind, seconds, version)
            for kind in ("known", "newcomer", "user")
        }
        for each in visitors.values():
            stack.callback(each.end)
        known, user = visitors["known"].stop(seconds + 5), visitors["user"].stop(5)
        lasted = time.monotonic() - began
        cores = (at.mail.cpu() - cpu) / lasted
        own = (guard.cpu() - used) / lasted if guard else 0.0
        status = guard.status().overload if guard else []
        newcomers = visitors["newcomer"].stop(patience)
        bots = None if swarm is None else swarm.stop()
    return Outcome(known, newcomers, user, bots, cores, own, status)
