"""The attack that the demo shows and the system tests repeat: who attacks, and what it costs.

Attackers are spread as a botnet is, an address in each network, but for `harvest`, which comes from
one /24 and one /64. The good user shares a /24 and a /64 with one that guesses passwords. Owns the
bots of a run.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from lab.daemon.daemon import Daemon
from lab.mail.bots import Bot, Report
from lab.mail.postfix import Lab, Postfix
from lab.network.netns import until
from throttled import address
from throttled.model import Action, Decision, Scope
from throttled.settings import GUESSING

#: Attack: first network and number of sources of each IP version.
_BOTNETS = {"flood": (0, 40), "guess": (60, 30), "garbage": (90, 20), "relay": (110, 20)}
_HARVEST = 30

SENDERS = tuple(each for i in range(1, 5) for each in (f"198.19.100.{i}", f"2001:db8:b:a::{i}"))
USERS = ("198.18.60.22", "2001:db8:b:103c::22")
GOOD: Mapping[str, Sequence[str]] = {"sender": SENDERS, "user": USERS}
SCOPES: Mapping[str, Scope] = {"guess": "submission"}  # the others are at port 25

#: Seconds within which a ban must have become silence, sessions that were open included.
_SILENCE = 1.0


def attackers(share: float = 1.0) -> dict[str, list[str]]:
    """Return the sources of each attack, half of them IPv6; `share` makes them fewer."""
    sources = {}
    for kind, (first, count) in _BOTNETS.items():
        numbers = range(first, first + max(1, round(count * share)))
        sources[kind] = [f"198.18.{n}.7" for n in numbers]
        sources[kind] += [f"2001:db8:b:{0x1000 + n:x}::7" for n in numbers]
    # A network is banned at ten addresses: never fewer than that.
    numbers = range(1, 1 + max(12, round(_HARVEST * share)))
    sources["harvest"] = [f"198.19.9.{n}" for n in numbers]
    sources["harvest"] += [f"2001:db8:b:9::{n:x}" for n in numbers]
    return sources


class Sample(Struct):
    """Postfix at a moment."""

    at: float  # seconds since the run began
    smtpd: int  # processes
    connections: int
    cpu: float  # seconds used


class Run(Struct):
    """What a run was like."""

    began: float  # wall clock
    samples: list[Sample]
    reports: dict[str, Report] = field(default_factory=dict)
    delivered: int = 0  # messages that lie in the mailboxes

    def smtpd(self) -> int:
        """Return the smtpd processes at the peak; idle ones live on for 100 s."""
        return max(sample.smtpd for sample in self.samples)

    def connections(self, last: float) -> float:
        """Return the mean number of connections in the last so many seconds."""
        after = self.samples[-1].at - last
        return statistics.mean(each.connections for each in self.samples if each.at >= after)

    def cpu(self, last: float | None = None) -> float:
        """Return the cores that Postfix used, over all or the last so many seconds."""
        end = self.samples[-1]
        start = next(s for s in self.samples if last is None or s.at >= end.at - last)
        return (end.cpu - start.cpu) / max(end.at - start.at, 0.001)

    def sent(self) -> int:
        """Return how many good messages there were."""
        return sum(self.reports[kind].sent for kind in GOOD)

    def accepted(self) -> int:
        """Return how many good messages the server took."""
        return sum(len(self.reports[kind].latencies) for kind in GOOD)


def run(
    lab: Lab,
    sources: Mapping[str, Sequence[str]],
    seconds: float,
    progress: Callable[[Sample], None] = lambda _: None,
    done: Callable[[], bool] | None = None,
) -> Run:
    """Let all clients talk to the server for so long, and measure it.

    Args:
        lab: the server, and the namespace of the clients.
        sources: the addresses by kind of bot; GOOD is added.
        seconds: how long.
        progress: called with each sample, five a second.
        done: the run lasts longer until this is true, at most four times as long: a slow machine
            needs more time for the same.
    """
    longest = seconds if done is None else 4 * seconds
    before = _delivered(lab.mail)
    bots: dict[str, Bot] = {}
    with contextlib.ExitStack() as stack:
        for kind, addresses in {**sources, **GOOD}.items():
            bots[kind] = Bot(lab.client, kind, longest, addresses)
            stack.callback(bots[kind].end)
        made = Run(time.time(), [])
        start = time.monotonic()
        while (at := time.monotonic() - start) < seconds or (
            done is not None and at < longest and not done()
        ):
            made.samples.append(_sample(at, lab.mail))
            progress(made.samples[-1])
            time.sleep(0.2)
        if done is not None:
            for bot in bots.values():
                bot.terminate()
        made.reports = {kind: bot.report() for kind, bot in bots.items()}
    with contextlib.suppress(TimeoutError):
        until(lambda: _delivered(lab.mail) - before >= made.accepted(), "all mail is delivered")
    made.delivered = _delivered(lab.mail) - before
    return made


def _sample(at: float, mail: Postfix) -> Sample:
    return Sample(at, mail.smtpd(), mail.connections(), mail.cpu())


class Verdict(Struct):
    """What became of an attack, by what the daemon decided and by what the attackers saw."""

    sources: int
    stopped: int = 0  # a flood: throttled or banned; all else: banned, or throttled as in `_stop`
    throttled: int = 0
    banned: int = 0
    first_throttle: float | None = None  # seconds since the attack began
    first_ban: float | None = None
    last_stopped: float | None = None
    dropped: int = 0  # packets, by the kernel's counters
    answered: list[str] = field(default_factory=list)  # although banned


def judge(guard: Daemon, kind: str, sources: Sequence[str], report: Report) -> Verdict:
    """Ask the daemon what it did about each source of an attack.

    Args:
        guard: the daemon.
        kind: the attack.
        sources: its addresses.
        report: what its bot saw.
    """
    scope = SCOPES.get(kind, "mx")
    verdict = Verdict(len(sources))
    stops = []
    for source in sources:
        decisions = _decisions(guard, source, scope)
        throttle, ban = _first(decisions, "throttle"), _first(decisions, "ban")
        verdict.throttled += throttle is not None
        verdict.banned += ban is not None
        stop = _stop(kind, decisions)
        if stop is not None:
            stops.append(stop - report.began)
        verdict.first_throttle = _earliest(verdict.first_throttle, throttle)
        verdict.first_ban = _earliest(verdict.first_ban, ban)
        if ban is not None and report.answered.get(source, 0.0) > ban + _SILENCE:
            verdict.answered.append(source)
    verdict.stopped = len(stops)
    verdict.last_stopped = max(stops, default=None)
    verdict.first_throttle = _since(verdict.first_throttle, report.began)
    verdict.first_ban = _since(verdict.first_ban, report.began)
    verdict.dropped = _dropped(guard, set(sources), scope)
    return verdict


def until_stopped(guard: Daemon, attacks: Mapping[str, Sequence[str]]) -> Callable[[], bool]:
    """Return a function that returns whether the daemon has stopped all sources."""
    pending = [(kind, source) for kind, sources in attacks.items() for source in sources]

    def done() -> bool:
        while pending:
            kind, source = pending[-1]
            if _stop(kind, _decisions(guard, source, SCOPES.get(kind, "mx"))) is None:
                return False
            pending.pop()
        return True

    return done


def _stop(kind: str, decisions: Sequence[Decision]) -> float | None:
    """Return when a source was stopped."""
    # A throttled network shares one allowance, and who failed on one account under attack may
    # connect once a day: what is left of these can take long to be banned.
    slow = [d for d in decisions if address.is_network(d.subject) or d.limit == GUESSING]
    throttled = decisions if kind == "flood" else slow
    return _earliest(_first(decisions, "ban"), _first(throttled, "throttle"))


def _decisions(guard: Daemon, source: str, scope: Scope) -> list[Decision]:
    """Return what was decided about an address and its network."""
    subjects = (source, address.network_of(source))
    decisions = [each for subject in subjects for each in guard.decisions(subject)]
    return [each for each in decisions if each.scope == scope]


def _dropped(guard: Daemon, sources: set[str], scope: Scope) -> int:
    mine = sources | {address.network_of(source) for source in sources}
    return sum(row.packets for row in guard.rows(scope=scope) if row.subject in mine)


def _first(decisions: Sequence[Decision], action: Action) -> float | None:
    return min((each.time for each in decisions if each.action == action), default=None)


def _earliest(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _since(moment: float | None, began: float) -> float | None:
    return None if moment is None else moment - began


def _delivered(mail: Postfix) -> int:
    return mail.delivered("alice") + mail.delivered("bob")
