"""`make soak`: a night of mishaps in minutes, on a real Postfix, and what must hold all the while.

New attackers come every few seconds; good people send mail all the time; meanwhile everything of
`lab.disturb` happens, one after the other in random order. What must hold:

- each line of the log counts, and once, whatever happens to the log and the daemon (`lab.exact`);
- a client that is banned gets no answer, but for BACK seconds after a change of the firewall;
- good people are never throttled or banned, and all their mail is delivered;
- every request is answered, the daemon ends only when it is asked to, says nothing of the
  unforeseen, its memory stays flat, and at the end it is well.

Everything is in network namespaces of this machine and gone afterwards. Owns nothing but what it
prints.
"""

import argparse
import contextlib
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from lab.daemon.daemon import Daemon, daemon
from lab.daemon.disturb import BACK, Disturbances
from lab.daemon.exact import STEPS, Cohort
from lab.daemon.vigil import Vigil
from lab.daemon.watch import answers
from lab.mail.bots import ATTACKS, Bot, Report
from lab.mail.postfix import Lab, lab
from lab.network import netns
from lab.show import scene, soaking
from throttled.errors import ThrottledError
from throttled.tail.archive import read_log

_EPILOG = """\
examples:
  sudo scripts/soak                      ten minutes
  sudo scripts/soak --seconds 28800      a night
  sudo scripts/soak --seconds 30 --seed 7 --json | jq .errors
  make soak SECONDS=600

The seed chooses what happens when; Postfix, the kernel and the clock still differ from run to run.
exit codes: 0 everything held; 1 something did not; 3 not root.
"""
_BANNED = "198.18.255.7"
_USERS = ("198.18.254.22", "2001:db8:b:fe::22")
_WAVE = 6.0  # seconds that attackers stay; one wave follows the other
_ATTACKERS = 10  # of each IP version and kind in a wave
_COHORT = 20
_STEP = 0.2
_DEADLINE = 15.0  # seconds until the last line of a cohort is surely counted
_ASKED = 10  # of those banned at the end, how many are to knock once more: 0.7 s each
_FLAT = 30_000_000  # bytes that one daemon's memory may grow, from a second after its start
_SMALL = "48m"  # of the file system that the database is in
#: What the daemon may call an error when the store, the firewall or the configuration is faulty.
_FORESEEN = re.compile(
    r"throttled.toml|recorded later|without the history|disk|locked|database|table|allowlist is"
    r"|No such file|chain|set "
)
_UNFORESEEN = re.compile(r"unexpected error \(|Traceback")


class Outcome(msgspec.Struct):
    """All that was measured."""

    seconds: float
    seed: int
    disturbed: dict[str, int] = {}
    errors: list[str] = []
    lines: int = 0  # in the logs of Postfix, all of them
    traced: int = 0  # lines whose loss or repetition would have been seen
    lost: int = 0  # clients of which a line was lost
    twice: int = 0  # … counted twice
    attackers: int = 0
    banned: int = 0  # subjects that were, at any time
    segments: int = 0  # sent by a banned client
    answered: int = 0  # of these, in all
    back: list[float] = []  # seconds until blocked again, of each hand on the firewall
    good_sent: int = 0
    good_accepted: int = 0
    start: list[float] = []  # seconds, of each start
    memory: int = 0  # bytes resident, at most
    grown: int = 0  # bytes that the memory of one daemon grew, at most
    log: str = ""  # where what the daemon said is kept, if there are errors


class Soak:
    """One run."""

    def __init__(self, at: Lab, guard: Daemon, outcome: Outcome, console: Console) -> None:
        self._lab = at
        self._guard = guard
        self._outcome = outcome
        self._console = console
        self._cohorts = (Cohort(_COHORT, _COHORT * n) for n in itertools.count())
        self._waiting: list[tuple[float, Cohort]] = []  # (deadline, cohort), all written
        self._done: list[Cohort] = []
        self._waves = itertools.count()
        self._sources = _attackers()
        self._bots: list[tuple[float, Bot]] = []  # (end, bot)
        self._life: tuple[int, int] = (0, 0)  # process, and its memory when it was young
        self._errors: Counter[str] = Counter()

    def run(self, disturbances: Disturbances, rng: random.Random) -> None:
        """Let it all happen."""
        begin = now = time.monotonic()
        calm = begin + 1.0
        good = [
            Bot(self._lab.client, kind, self._outcome.seconds, sources)
            for kind, sources in (("sender", scene.SENDERS), ("user", _USERS))
        ]
        lines = self._lines()
        doing = ""
        while now < begin + self._outcome.seconds:
            self._append(next(lines))
            self._waves_come(now)
            if now > calm:
                doing = disturbances.next()
                calm = time.monotonic() + rng.uniform(0.1, 0.9)
            disturbances.end()
            self._look(disturbances)
            self._show(now - begin, doing)
            time.sleep(max(0.0, now + _STEP - time.monotonic()))  # so many lines a second
            now = time.monotonic()
        disturbances.close()
        for _ in range(STEPS):  # the cohort that is under way
            self._append(next(lines))
        self._end(good)

    def error(self, what: str) -> None:
        """Note what should not be."""
        self._errors[what] += 1
        self._outcome.errors = [
            f"{text} ({count} times)" if count > 1 else text for text, count in self._errors.items()
        ]

    def _lines(self) -> Iterator[list[str]]:
        for cohort in self._cohorts:
            yield from cohort.steps()
            self._waiting.append((time.monotonic() + _DEADLINE, cohort))

    def _append(self, lines: list[str]) -> None:
        with self._lab.mail.log.open("a") as file:
            file.writelines(lines)

    def _waves_come(self, now: float) -> None:
        """Start the next attackers when those before are gone."""
        for end, bot in list(self._bots):
            if now > end + 1.0:
                self._bots.remove((end, bot))
                bot.report()
        if not self._bots:
            others = [kind for kind in ATTACKS if kind != "flood"]
            for kind in ("flood", others[next(self._waves) % len(others)]):
                sources = [next(self._sources) for _ in range(2 * _ATTACKERS)]
                self._bots.append((now + _WAVE, Bot(self._lab.client, kind, _WAVE, sources)))
                self._outcome.attackers += len(sources)

    def _look(self, disturbances: Disturbances) -> None:
        """See whether all that must hold does."""
        with self._catching("status"):
            for source in (*scene.SENDERS, *_USERS):
                for row in self._guard.rows(source):
                    self.error(f"good {row.subject}: {row.action}, {row.why}")
        memory = self._guard.memory()
        self._outcome.memory = max(self._outcome.memory, memory)
        if self._life[0] != self._guard.pid:
            self._life = self._guard.pid, memory
        self._outcome.grown = max(self._outcome.grown, memory - self._life[1])
        if self._outcome.grown > _FLAT:
            self.error(f"the daemon's memory grew by more than {_FLAT / 1e6:.0f} MB")
        if self._guard.ended():
            self.error("the daemon ended by itself")
            self._guard.start()
        if disturbances.well:
            self._judge(time.monotonic())

    def _judge(self, now: float) -> None:
        for deadline, cohort in list(self._waiting):
            rows = [row for each in cohort.clients for row in self._guard.rows(each)]
            verdict = cohort.judge(rows)
            if verdict.lost and now < deadline:
                continue
            self._waiting.remove((deadline, cohort))
            self._done.append(cohort)
            self._outcome.traced += verdict.lines
            self._outcome.lost += len(verdict.lost)
            self._outcome.twice += len(verdict.twice)
            if verdict.lost or verdict.twice:
                self.error(f"of {verdict.lost[:3]} lines were lost, of {verdict.twice[:3]} twice")

    def _end(self, good: Sequence[Bot]) -> None:
        outcome = self._outcome
        reports: list[Report] = [bot.report() for bot in good]
        outcome.good_sent = sum(report.sent for report in reports)
        outcome.good_accepted = sum(len(report.latencies) for report in reports)
        for _, bot in self._bots:
            bot.report()
        end = time.monotonic() + _DEADLINE
        while self._waiting and time.monotonic() < end:
            self._judge(time.monotonic())
        self._judge(time.monotonic() + _DEADLINE)
        with contextlib.suppress(TimeoutError):
            netns.until(lambda: not self._guard.status().health, "it is well", 15.0)
        for finding in self._guard.status().health:
            if finding.key.startswith("overload-"):
                continue  # its own flood: strangers are delayed for as long as that was
            self.error(f"not well at the end: {finding.what}")
        rows = [row for row in self._guard.rows() if row.action == "ban"]
        outcome.banned = len({row.subject for row in rows})
        ours = [row for row in rows if row.subject.startswith("198.18.") and "/" not in row.subject]
        for row in ours[:_ASKED]:
            port = 587 if row.scope == "submission" else 25
            # Whose decision waited for the store is put back by a sample only, up to 10 s later.
            try:
                gone = partial(answers, self._lab, row.subject, port)
                netns.until(lambda gone=gone: not gone(), "it is blocked", 20.0)  # type: ignore[misc]
            except TimeoutError:
                self.error(f"{row.subject} is banned and answered")
        for line in self._guard.log.read_text(errors="replace").splitlines():
            if _UNFORESEEN.search(line) or (
                line.startswith("throttled: error: ") and not _FORESEEN.search(line)
            ):
                self.error(f"the daemon logged: {line[:100]}")

    def _show(self, passed: float, doing: str) -> None:
        o = self._outcome
        text = (
            f"{passed:4.0f}/{o.seconds:.0f} s  traced {o.traced:5}  lost {o.lost}  twice {o.twice}"
        )
        text += f"  memory {o.memory / 1e6:3.0f} MB  errors {len(o.errors)}  {doing:<18}"
        if self._console.is_terminal:
            self._console.print(text[:79], end="\r")
        elif int(passed / 10) > int((passed - _STEP) / 10):
            self._console.print(text.rstrip(), soft_wrap=True)

    @contextlib.contextmanager
    def _catching(self, what: str) -> Iterator[None]:
        try:
            yield
        except ThrottledError as error:
            self.error(f"{what}: {error.message}")


def _attackers() -> Iterator[str]:
    """Yield addresses that were not used yet, each in a network of its own as long as possible."""
    for n in itertools.count():
        yield f"198.18.{n % 250}.{9 + n // 250 % 240}"
        yield f"2001:db8:b:{0x2000 + n % 0xD000:x}::{7 + n // 0xD000:x}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and return the exit code."""
    options = _options(argv)
    outcome = Outcome(options.seconds, options.seed)
    console, code = soaking.play("soak", partial(_play, outcome), json=options.json)
    if code:
        return code
    outcome.errors += [f"left behind: {each}" for each in netns.leftovers()]
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(outcome)).decode())
    else:
        _print(console, outcome)
    for error in outcome.errors:
        console.print(f"[red]failed:[/] {error}", markup=True)
    if outcome.log:
        console.print(f"the daemon's log: {outcome.log}")
    return 1 if outcome.errors else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    about = "Crashes, rotations, floods and errors of a night in minutes."
    helps = "of what happens when (1)", "print the results as JSON"
    return soaking.options(argv, "soak", about, _EPILOG, helps=helps)


def _play(outcome: Outcome, console: Console) -> None:
    """Make everything, let it happen, judge, and take everything down."""
    rng = random.Random(outcome.seed)
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(lab())
        guard = stack.enter_context(daemon(at.server, at.mail.config))
        small = stack.enter_context(_tmpfs(guard.home / "small"))
        text = guard.config.read_text()
        guard.config.write_text(text.replace(f"{guard.home}/throttled.db", f"{small}/throttled.db"))
        stack.callback(guard.kill)  # before its disk goes
        guard.start()
        if guard.command("ban", _BANNED, "--for", "30d").returncode != 0:
            raise RuntimeError(guard.log.read_text())
        vigil = stack.enter_context(Vigil(at.client, _BANNED))
        disturbances = Disturbances(at, guard, vigil, small, rng)
        stack.callback(disturbances.close)
        soak = Soak(at, guard, outcome, console)
        try:
            soak.run(disturbances, rng)
        except (ThrottledError, TimeoutError, RuntimeError, OSError) as error:
            soak.error(f"{type(error).__name__}: {error}")
        outcome.start = disturbances.starts
        outcome.disturbed = dict(disturbances.counts)
        outcome.errors += disturbances.errors
        outcome.segments = vigil.sent
        _judge_answers(soak, outcome, vigil.answers, disturbances.touched)
        if outcome.errors:
            path = Path(tempfile.gettempdir(), f"soak-{os.getpid()}.log")
            shutil.copyfile(guard.log, path)
            outcome.log = str(path)
        outcome.lines = _count(at.mail.log)


def _judge_answers(
    soak: Soak, outcome: Outcome, heard: Sequence[float], touched: Sequence[float]
) -> None:
    """Compare when a banned client was answered with when the firewall was touched."""
    outcome.answered = len(heard)
    for begin, end in itertools.pairwise([*touched, float("inf")]):
        outcome.back.append(max((t - begin for t in heard if begin <= t < end), default=0.0))
    if any(t < min(touched, default=t + 1) for t in heard):
        soak.error("a banned client was answered before the firewall was changed")
    for late in outcome.back:
        if late > BACK:
            soak.error(f"a banned client was answered {late:.1f} s after a change of the firewall")


def _count(log: Path) -> int:
    """Return how many lines there are in a log and its generations, compressed ones too."""
    paths = log.parent.glob(f"{log.name}*")
    return sum(len(lines) for path in paths for lines, _ in read_log(str(path)))


@contextlib.contextmanager
def _tmpfs(where: Path) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def _print(console: Console, o: Outcome) -> None:
    happened = Table(title="\nEvents", title_justify="left", box=None, show_header=False)
    for _ in range(3):
        happened.add_column()
        happened.add_column(justify="right")
    cells = [text for name, count in o.disturbed.items() for text in (name, str(count))]
    for first in range(0, len(cells), 6):
        happened.add_row(*cells[first : first + 6])
    console.print(happened)
    required = Table(title="\nRequirements", title_justify="left", box=None, show_header=False)
    required.add_column()
    required.add_column(justify="right")
    starts = sorted(o.start)
    for what, figure in (
        ("lines in the logs", f"{o.lines:,}"),
        ("… of these each one of which is accounted for", f"{o.traced:,}"),
        ("clients of which a line was lost / counted twice", f"{o.lost} / {o.twice}"),
        ("attackers / subjects banned at the end", f"{o.attackers:,} / {o.banned:,}"),
        ("segments sent by a banned client / answered", f"{o.segments:,} / {o.answered:,}"),
        (
            "… blocked again after a change of the firewall, at most",
            f"{max(o.back, default=0):.2f} s",
        ),
        ("good mail: accepted / sent", f"{o.good_accepted} / {o.good_sent}"),
        ("ready after a start, at most", f"{starts[-1] if starts else 0:.2f} s"),
        ("memory, at most / one daemon's growth, at most", _megabytes(o.memory, o.grown)),
    ):
        required.add_row(what, figure)
    console.print(required)
    console.print(f"\n{o.seconds:.0f} s, seed {o.seed}: {len(o.errors)} errors")


def _megabytes(*counts: int) -> str:
    return " / ".join(f"{count / 1e6:.0f} MB" for count in counts)


if __name__ == "__main__":
    sys.exit(main())
