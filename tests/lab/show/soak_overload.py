"""`scripts/soak-overload`: bots from thousands of addresses for as long as asked for.

One attack follows the other (each kind of bots, both IP versions, several rates and numbers of
addresses), with pauses in which nothing attacks. Meanwhile known good servers, newcomers and a user
send mail. What must hold:

- all mail of known good servers and of the user is accepted, each at the first try;
- newcomers' mail is accepted in the end;
- strangers have no more connections open than the cap and its eighth, by inet_diag; in each pause
  the daemon's counter is that of inet_diag again, and turns and delays end after the last one;
- the daemon does not end, logs nothing unforeseen, and its memory stays flat.

Everything is in network namespaces of this machine and gone afterwards. Owns nothing but what it
prints.
"""

import argparse
import contextlib
import itertools
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
from rich.console import Console

from lab.daemon.daemon import Daemon, daemon
from lab.figures.overload import known_good
from lab.mail.postfix import Lab, lab
from lab.mail.swarm import KINDS, Swarm
from lab.mail.visitors import KNOWN, Visitors, Visits
from lab.network import netns
from lab.show import soaking
from throttled.address import pack
from throttled.control.overload import OverloadStatus
from throttled.enforce.sockets import opened
from throttled.errors import ThrottledError

_EPILOG = """\
examples:
  sudo scripts/soak-overload                    ten minutes
  sudo scripts/soak-overload --seconds 14400    hours
  sudo scripts/soak-overload --seconds 120 --json | jq .errors

exit codes: 0 everything held; 1 something did not; 3 not root.
"""
_ATTACK, _PAUSE = 50.0, 12.0
_RATES, _COUNTS = (100.0, 500.0, 2_000.0), (1_000, 5_000, 20_000, 50_000)
_BEGINS = 3.0  # seconds of an attack in which the cap is not active yet
_AGREE = 10.0  # seconds after an attack within which counters agree
#: Bytes that the daemon's memory may grow, from the end of the first attack: parsers' caches of
#: 25 MB when they are full, as much again for all else, and what it keeps of each client.
_FLAT, _CLIENT = 50_000_000, 500
_PATIENCE = 150.0  # for newcomers, after the last attack: 30 s to connect, 60 s until the next try
_OVER = 90.0  # seconds after the last connection that was dropped
_STEP = 1.0
_UNFORESEEN = re.compile(r"unexpected error \(|Traceback|throttled: error: ")


class Outcome(msgspec.Struct):
    """All that was measured."""

    seconds: float
    seed: int
    attacks: int = 0
    bots: int = 0  # connections that were tried
    most: int = 0  # strangers' connections, by inet_diag
    compared: int = 0  # pauses at the end of which the counters agreed
    slowest: float = 0.0  # seconds, of a known good server's message
    known: str = ""
    newcomers: str = ""
    user: str = ""
    memory: int = 0  # bytes resident, at most
    grown: int = 0  # bytes, since the first attack
    daemon: float = 0.0  # cores
    errors: list[str] = []


class Soak:
    """One run."""

    def __init__(self, at: Lab, guard: Daemon, outcome: Outcome, console: Console) -> None:
        self._lab, self._guard, self._outcome, self._console = at, guard, outcome, console
        self._known = {pack(KNOWN[version]) for version in (4, 6)}
        self._first = 0  # bytes of memory after the first attack
        self._begin = time.monotonic()

    def run(self, rng: random.Random) -> None:
        """Let one attack follow the other."""
        kinds = itertools.cycle(KINDS)
        end, cpu = self._begin + self._outcome.seconds, self._guard.cpu()
        for number in itertools.count():
            if time.monotonic() >= end:
                break
            about = rng.choice(_RATES), _ATTACK, rng.choice(_COUNTS), 4 + 2 * (number % 2)
            swarm = Swarm(self._lab.client, next(kinds), *about)
            try:
                self._watch(min(end, time.monotonic() + _ATTACK))
            finally:
                self._outcome.bots += swarm.stop().tried
            self._outcome.attacks += 1
            self._agree()
            self._first = self._first or self._guard.memory()
            self._pause(time.monotonic() + _PAUSE)
        self._outcome.daemon = (self._guard.cpu() - cpu) / (time.monotonic() - self._begin)

    def error(self, what: str) -> None:
        """Note what should not be, once."""
        if what not in self._outcome.errors:
            self._outcome.errors.append(what)
            self._console.print(f"[red]failed:[/] {what}")

    def end(self) -> None:
        """See whether it is over."""
        with self._catching("strangers are still delayed"):
            netns.until(lambda: not self._row().since, "nobody is delayed", _OVER)
        for line in self._guard.log.read_text(errors="replace").splitlines():
            if _UNFORESEEN.search(line):
                self.error(f"the daemon logged: {line[:100]}")

    def judge(self, known: Sequence[Visits], newcomers: Visits, user: Visits) -> None:
        """See whether all mail was accepted."""
        outcome = self._outcome
        sent = sum(each.sent for each in known)
        times = [seconds for each in known for _written, seconds in each.accepted]
        outcome.slowest = max(times, default=0.0)
        outcome.known = f"{len(times)} of {sent}"
        outcome.newcomers = f"{len(newcomers.accepted)} of {newcomers.sent}"
        outcome.user = f"{len(user.accepted)} of {user.sent}"
        if len(times) < sent:
            self.error(f"known good servers: {outcome.known} messages accepted")
        if newcomers.others:
            self.error(f"newcomers: {outcome.newcomers} messages accepted")
        if user.others:
            self.error(f"users: {outcome.user} messages accepted")

    def _watch(self, end: float) -> None:
        begun = time.monotonic()
        while (now := time.monotonic()) < end:
            row, count = self._row(), self._strangers()
            self._outcome.most = max(self._outcome.most, count)
            if now - begun > _BEGINS and count > row.cap + row.cap // 8 + 1:
                self.error(f"strangers had {count} connections open, {row.cap} are allowed")
            self._look(now, f"{count} open, {row.over_cap:,} dropped")
            time.sleep(_STEP)

    def _agree(self) -> None:
        """Wait until daemon and kernel count the same, with few connections or none."""
        with self._catching("the counter is not that of inet_diag"):
            netns.until(lambda: self._row().open == self._strangers(), "they agree", _AGREE)
            self._outcome.compared += 1

    def _pause(self, end: float) -> None:
        while (now := time.monotonic()) < end:
            self._look(now, "pause")
            time.sleep(_STEP)

    def _look(self, now: float, doing: str) -> None:
        outcome, memory = self._outcome, self._guard.memory()
        outcome.memory = max(outcome.memory, memory)
        if self._first:
            outcome.grown = max(outcome.grown, memory - self._first)
        if outcome.grown > _FLAT + _CLIENT * self._guard.status().clients:
            self.error(f"the daemon's memory grew by {outcome.grown / 1e6:.0f} MB")
        if self._guard.ended():
            raise RuntimeError("the daemon ended by itself")
        text = f"{now - self._begin:5.0f}/{outcome.seconds:.0f} s  attacks {outcome.attacks}  "
        text += f"memory {memory / 1e6:3.0f} MB  errors {len(outcome.errors)}  {doing:<30}"
        if self._console.is_terminal:
            self._console.print(text[:79], end="\r")

    def _row(self) -> OverloadStatus:
        return next(row for row in self._guard.status().overload if row.scope == "mx")

    def _strangers(self) -> int:
        with self._lab.server.entered():
            return sum(each.far not in self._known for each in opened((25,)))

    @contextlib.contextmanager
    def _catching(self, what: str) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, ThrottledError):
            self.error(what)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and return the exit code."""
    options = _options(argv)
    outcome = Outcome(options.seconds, options.seed)
    _, code = soaking.play("soak-overload", partial(_play, outcome), json=options.json)
    if code:
        return code
    outcome.errors += [f"left behind: {each}" for each in netns.leftovers()]
    print(msgspec.json.format(msgspec.json.encode(outcome)).decode())
    return 1 if outcome.errors else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    about = "Attacks from thousands of addresses, one after the other."
    helps = "of which attack follows (1)", "print nothing else"
    return soaking.options(argv, "soak-overload", about, _EPILOG, helps=helps)


def _play(outcome: Outcome, console: Console) -> None:
    """Make everything, let it happen, judge, and take everything down."""
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(lab())
        guard = stack.enter_context(daemon(at.server, at.mail.config))
        known_good(guard, *KNOWN.values())
        guard.start()
        netns.until(
            lambda: any(row.means for row in guard.status().overload), "strangers are limited"
        )
        visitors = [
            Visitors(at.client, kind, outcome.seconds, version)
            for kind, version in (("known", 4), ("known", 6), ("newcomer", 6), ("user", 4))
        ]
        for each in visitors:
            stack.callback(each.end)
        soak = Soak(at, guard, outcome, console)
        try:
            soak.run(random.Random(outcome.seed))
        except (ThrottledError, TimeoutError, RuntimeError, OSError) as error:
            soak.error(f"{type(error).__name__}: {error}")
        v4, v6, newcomers, user = visitors
        known = [each.stop(_AGREE) for each in (v4, v6)]
        soak.judge(known, newcomers.stop(_PATIENCE), user.stop())
        soak.end()


if __name__ == "__main__":
    sys.exit(main())
