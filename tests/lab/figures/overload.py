"""Bots from thousands of addresses against Postfix: what known good clients and newcomers feel.

Each row is a run of its own Postfix and daemon: bots (`lab.mail.swarm`), a known good server with a
message every 0.25 s, newcomers with a mail server's retries, a user on port 587. Beside the rows
with the daemon stand quiet ones and those without. Owns nothing.
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
from lab.mail.swarm import THINKS, Report, Swarm
from lab.mail.visitors import KNOWN, Visitors, Visits
from lab.network.netns import until
from throttled.control.overload import OverloadStatus
from throttled.model import Evidence
from throttled.store.store import Store

_DAY = 86400.0
_CALM = "overload: no bots, a known good server, admission control on and off"
_STORM = "overload: newcomers beside an honest storm, 300 clients/s for 3 s, {:.0f} ms away"
#: Seconds of a client's round trip: of such sessions Postfix cannot serve 300 a second, and can.
_AWAY = (0.3, 0.05)
#: Storms with and without the daemon, in turn; and seconds for which newcomers are waited for after
#: one. Those that waited in vain by then count as that long only: in favour of no daemon.
_ROUNDS, _STORM_PATIENCE = 3, 15.0
_OFF = '[overload]\nmx = "off"\nsubmission = "off"\n'
_KINDS = ("quit", "rcpt", "silent")
_COUNTS = (1_000, 5_000, 20_000, 50_000)
_RATES = (100.0, 500.0, 2_000.0)
#: With `--short`: each kind of bots from each number of addresses, once each; each number and each
#: rate with both IP versions.
_SELECTED = (
    ("quit", 100.0, 1_000, 4),
    ("quit", 500.0, 5_000, 6),
    ("quit", 2_000.0, 20_000, 4),
    ("quit", 500.0, 50_000, 6),
    ("rcpt", 500.0, 1_000, 6),
    ("rcpt", 500.0, 5_000, 4),
    ("rcpt", 100.0, 20_000, 6),
    ("rcpt", 2_000.0, 50_000, 6),
    ("silent", 2_000.0, 1_000, 4),
    ("silent", 100.0, 5_000, 4),
    ("silent", 500.0, 20_000, 6),
    ("silent", 500.0, 50_000, 4),
)
_SECONDS, _PATIENCE = 30.0, 120.0
_SHORT, _SHORT_PATIENCE = 12.0, 10.0
#: Runs in which newcomers are judged that come from as many networks as there is room for: as long
#: as all of an attack's networks need to have their turn, and as long again.
_LONG = (("rcpt", 150.0), ("quit", 120.0), ("silent", 400.0))
#: Seconds of the attack that do not count for the worst delay: until the cap is reached.
_FIRST = 1.0
#: Seconds that silent strangers have while others wait (0.3 of `idle`), and until they are ended.
_SILENT, _ENDED = 3.0, 5.0
#: More networks than this do not all have their turn in a run of half a minute.
_NETWORKS = 400


class Attack(NamedTuple):
    """What the bots do."""

    kind: str = "rcpt"
    rate: float = 500.0
    addresses: int = 5_000
    version: int = 4
    seconds: float = _SECONDS
    begins: float | None = None  # seconds in which connections are opened; None: all
    thinks: float = THINKS  # seconds before every command
    newcomers: str = "newcomer"  # see `lab.mail.visitors.KINDS`

    @property
    def networks(self) -> int:
        """How many networks (/24, /64) it comes from; see `swarm.addresses`."""
        return self.addresses if self.version == 6 else min(400, self.addresses)


class Outcome(Struct):
    """What became of a run."""

    known: Visits
    newcomers: Visits
    user: Visits
    bots: Report | None
    cpu: float  # of Postfix, in cores
    daemon: float  # of the daemon, in cores
    status: list[OverloadStatus]


def overload(options: Options) -> list[Row]:
    """Measure each kind of bots, from 1,000 to 50,000 addresses, at 100 to 2,000 connections/s.

    Only those runs whose name has `options.only` in it, and always the quiet one, which the others
    are compared with.
    """
    with lab() as at, besieged(at) as guard:
        quiet = attack(at, guard, None)
    rows = [_quiet(quiet)]
    if options.only in _CALM:
        rows.append(_calm(quiet))
    bare = Attack(seconds=_SHORT)
    if options.only in _name(bare, bare=True):
        with lab() as at:
            rows += _rows(bare, attack(at, None, bare), quiet, bare=True)
    for away in _AWAY:
        if options.only in _STORM.format(away * 1e3):
            rows.append(_storm(away, 1 if options.short else _ROUNDS))
    for how in _attacks(short=options.short):
        if options.only in _name(how):
            patience = _SHORT_PATIENCE if how.seconds < _SECONDS else _PATIENCE
            with lab() as at, besieged(at, how.version) as guard:
                rows += _rows(how, attack(at, guard, how, patience), quiet)
    return rows


def _attacks(*, short: bool) -> Iterator[Attack]:
    if short:
        yield from (Attack(*each, seconds=_SHORT) for each in _SELECTED)
    else:
        for kind, rate, count, version in itertools.product(_KINDS, _RATES, _COUNTS, (4, 6)):
            yield Attack(kind, rate, count, version)
    for kind, seconds in _LONG[: 1 if short else None]:
        yield Attack(kind, version=6, seconds=seconds)


def _name(how: Attack, *, bare: bool = False) -> str:
    name = f"overload: {how.kind}, {how.addresses:,} addresses (IPv{how.version}), {how.rate:.0f}/s"
    name += f" for {how.seconds:.0f} s" if how.seconds > _SECONDS else ""
    return name + (", without the daemon" if bare else "")


def _storm(away: float, rounds: int) -> Row:
    """Compare an honest storm of 300 clients a second for three seconds with and without."""
    how = Attack("rcpt", 300.0, 1_000, 6, 15.0, 3.0, away, "newcomers")
    bare, ours = list[Outcome](), list[Outcome]()
    for guarded in (False, True) * rounds:
        with lab() as at, contextlib.ExitStack() as stack:
            guard = stack.enter_context(besieged(at, 6)) if guarded else None
            (ours if guarded else bare).append(attack(at, guard, how, _STORM_PATIENCE))
    without, mean = (
        statistics.fmean(seconds for each in found for seconds in _waited(each.newcomers))
        for found in (bare, ours)
    )
    stranded, waiting = (
        sum(len(each.newcomers.others) for each in found) for found in (bare, ours)
    )
    worst, worst_bare = (max(map(_worst, found)) for found in (ours, bare))
    sent = sum(each.newcomers.sent for each in ours)
    return Row(
        _STORM.format(away * 1e3),
        "≤ 2.5 of without the daemon, on average; known good ≤ 100 ms after 1 s",
        f"{mean / without:.1f} ({mean:.2f} s), {sent - waiting} of {sent}, without {stranded} not "
        f"accepted; known good {worst * 1e3:,.0f} ms, without {worst_bare * 1e3:,.0f} ms",
        mean <= 2.5 * without and not waiting and worst <= 0.1,
        {"ratio": mean / without, "bare": without, "ours": mean, "stranded": stranded},
    )


def _quiet(quiet: Outcome) -> Row:
    median, p99 = quantiles(_times(quiet.known))
    return Row(
        "overload: no bots, a known good server",
        "all accepted, daemon ≤ 2 % of a core",
        f"{_share(quiet.known)}, {median * 1e3:.0f} / {p99 * 1e3:.0f} ms, {quiet.daemon:.1%}",
        not quiet.known.others and quiet.daemon <= 0.02,
        {"median": median, "p99": p99, "daemon": quiet.daemon},
    )


def _calm(quiet: Outcome) -> Row:
    """Compare calm times with those of a daemon that limits no strangers."""
    with lab() as at, daemon(at.server, at.mail.config, _OFF) as guard:
        guard.start()
        off = attack(at, guard, None)
    ratio = statistics.median(_times(quiet.known)) / statistics.median(_times(off.known))
    more, postfix = quiet.daemon - off.daemon, quiet.cpu / off.cpu
    return Row(
        _CALM,
        "median ≤ 1.1 of off, daemon + ≤ 0.5 % of a core",
        f"{ratio:.2f}, {more:+.1%}; Postfix's CPU {postfix:.2f}",
        ratio <= 1.1 and more <= 0.005,
        {"ratio": ratio, "daemon": more, "postfix": postfix},
    )


def _rows(how: Attack, found: Outcome, quiet: Outcome, *, bare: bool = False) -> list[Row]:
    """Return rows for known good clients, newcomers, users, and silent strangers."""
    name = _name(how, bare=bare)
    usual = statistics.median(_times(quiet.known))
    times = _times(found.known) or [0.0]
    median, worst = statistics.median(times), _worst(found)
    values = {"median": median, "worst": worst, "postfix": found.cpu, "daemon": found.daemon}
    reached = not found.known.others and median <= 1.5 * usual and worst <= 0.1
    rows = [
        Row(
            name,
            "all, median ≤ 1.5 of quiet, worst ≤ 100 ms after 1 s",
            f"{_share(found.known)}, {median / usual:.1f}, {worst * 1e3:,.0f} ms; Postfix "
            f"{found.cpu:.2f} cores, daemon {found.daemon:.2f}",
            bare or reached,
            {**values, "accepted": len(times), "sent": found.known.sent, "usual": usual},
        ),
        _newcomers(how, found.newcomers, bare=bare),
        Row(
            "… users who submit mail",
            "all",
            _share(found.user),
            bare or not found.user.others,
            {"accepted": len(found.user.accepted)},
        ),
    ]
    stayed = [] if found.bots is None else found.bots.stayed
    if how.kind == "silent" and stayed and not bare:
        rows.append(_silent(stayed))
    return rows


def _newcomers(how: Attack, visits: Visits, *, bare: bool) -> Row:
    """Return the row of newcomers; those that still wait count with the time they have waited."""
    waited = _waited(visits)
    median, worst = statistics.median(waited), max(waited)
    lasts = how.networks <= _NETWORKS and how.seconds >= _SECONDS
    judged = not bare and (lasts or how.seconds > _SECONDS)
    return Row(
        "… newcomers, each from a network of its own",
        "all in the end, median ≤ 10 s" if judged else "stated",
        f"{_share(visits)}, at the first try {visits.first}, median {median:.1f} s, "
        f"{'still waiting' if visits.others else 'slowest'} {worst:.0f} s",
        not judged or (median <= 10 and not visits.others),
        {"accepted": len(visits.accepted), "sent": visits.sent, "median": median, "worst": worst},
    )


def _silent(stayed: list[float]) -> Row:
    """Return the row of silent sessions that were ended."""
    late = max(stayed) - _SILENT
    return Row(
        f"… places of silent strangers, {_SILENT:.0f} s after the greeting",
        f"free again within {_ENDED:.0f} s",
        f"{len(stayed)} ended, median {statistics.median(stayed) - _SILENT:+.1f} s, "
        f"slowest {late:+.1f} s",
        late <= _ENDED,
        {"ended": len(stayed), "worst": late},
    )


def _worst(found: Outcome) -> float:
    """Return how long the slowest message took of those written after the first second."""
    bots = found.known.began if found.bots is None else found.bots.began
    first = bots + _FIRST - found.known.began
    late = (seconds for written, seconds in found.known.accepted if written > first)
    return max(late, default=0.0)


def _times(visits: Visits) -> list[float]:
    return [seconds for _written, seconds in visits.accepted]


def _waited(visits: Visits) -> list[float]:
    """Return how long each waited, or has waited if it still does."""
    return [seconds for _written, seconds in (*visits.accepted, *visits.others)]


def _share(visits: Visits) -> str:
    return f"{len(visits.accepted)} of {visits.sent}"


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
    version, newcomer = (how.version, how.newcomers) if how else (4, Attack().newcomers)
    cpu, used, began = at.mail.cpu(), guard.cpu() if guard else 0.0, time.monotonic()
    with contextlib.ExitStack() as stack:
        swarm = None
        if how is not None:
            lasts = seconds + patience
            about = how.kind, how.rate, lasts, how.addresses, version, how.begins, how.thinks
            swarm = Swarm(at.client, *about)
            stack.callback(swarm.end)
        visitors = {
            kind: Visitors(at.client, kind, seconds, version)
            for kind in ("known", newcomer, "user")
        }
        for each in visitors.values():
            stack.callback(each.end)
        known, user = visitors["known"].stop(seconds + 5), visitors["user"].stop(5)
        lasted = time.monotonic() - began
        cores = (at.mail.cpu() - cpu) / lasted
        own = (guard.cpu() - used) / lasted if guard else 0.0
        status = guard.status().overload if guard else []
        newcomers = visitors[newcomer].stop(patience)
        bots = None if swarm is None else swarm.stop()
    return Outcome(known, newcomers, user, bots, cores, own, status)
