"""kill -9 at every step and at random: the same decisions, none twice, and no gap in protection."""

import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from lab.daemon.daemon import THROTTLED, Daemon, daemon
from lab.daemon.exact import Cohort
from lab.daemon.kill import STEPS
from lab.daemon.vigil import Vigil
from lab.mail.logs import flood, stamp
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.errors import NotRunningError

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]

BANNED = "198.18.7.7"
FRIEND = "100.127.0.9"


@pytest.fixture
def log(lab: Lab) -> Path:
    path = lab.mail.log.with_name("ours.log")
    path.write_text("")
    return path


@pytest.fixture
def guard(lab: Lab, log: Path) -> Iterator[Daemon]:
    with daemon(lab.server, lab.mail.config, f'[log]\nfiles = ["{log}"]\n') as made:
        made.start()
        assert made.command("ban", BANNED, "--for", "1h").returncode == 0
        made.kill()
        yield made
    lab.server.run("nft", "flush", "ruleset")


def append(log: Path, lines: list[str]) -> None:
    with log.open("a") as file:
        file.writelines(lines)


def twice(guard: Daemon) -> list[tuple[str, str, str, int]]:
    """Decisions that were taken more than once."""
    with closing(sqlite3.connect(guard.home / "throttled.db")) as connection:
        return connection.execute(
            "SELECT action, subject, scope, count(*) AS n FROM decision"
            " WHERE action <> 'release' GROUP BY 1, 2, 3 HAVING n > 1"
        ).fetchall()


def judged(guard: Daemon, cohort: Cohort, number: int) -> None:
    netns.until(lambda: not cohort.judge(guard.rows()).lost, f"cohort {number} is decided")
    assert not cohort.judge(guard.rows()).twice, number


def good(number: int) -> str:
    """The end of a session that delivers a message, for its client; another one begins."""
    head = f"{stamp(time.time())} mx postfix/smtpd[{2_000_000 + number}]"
    other = f"100.126.{number >> 8}.{number & 255}"
    begin = f"{head}: connect from other[{other}]\n"
    return (
        f"{begin}{head}: disconnect from friend[{FRIEND}] ehlo=1 mail=1 rcpt=1 data=1 commands=4\n"
    )


def deliveries(guard: Daemon) -> int:
    with closing(sqlite3.connect(guard.home / "throttled.db")) as connection:
        return sum(n for (n,) in connection.execute("SELECT deliveries FROM good"))


def hourly(guard: Daemon) -> dict[str, int]:
    """How often each thing happened, by the sums for reports; and all decisions there are."""
    with closing(sqlite3.connect(guard.home / "throttled.db")) as connection:
        found = connection.execute("SELECT what, sum(count) FROM hourly GROUP BY 1").fetchall()
        (decisions,) = connection.execute("SELECT count(*) FROM decision").fetchone()
    return {"decisions": decisions, **dict(found)}


def read(guard: Daemon) -> bool:
    """Return whether the log was read, or the daemon did not live to do it."""
    try:
        return guard.ended() or guard.status().tails[0].lag == 0
    except NotRunningError:
        return guard.ended()


def test_killed_at_every_step(lab: Lab, guard: Daemon, log: Path) -> None:
    """The one that is started after a kill is killed at the next step, and so on."""
    assert [name for name, step in STEPS.items() if not hasattr(step.owner, step.name)] == []
    cohorts = []
    delivered = 0
    with Vigil(lab.client, BANNED) as vigil:
        for number, (step, nth) in enumerate((s, n) for s in STEPS for n in (1, 2)):
            guard.program = (sys.executable, "-m", "lab.daemon.kill", step, str(nth))
            with suppress(RuntimeError):  # it may be killed by what the one before left undone
                guard.start()
            cohorts.append(Cohort(8, 8 * number))
            for lines in cohorts[-1].steps():
                append(log, [*lines, good(delivered)])
                delivered += 1
                netns.until(partial(read, guard), "it is read")
            netns.until(guard.ended, f"killed when {step}")
        guard.program = (THROTTLED,)
        guard.start()
        for number, cohort in enumerate(cohorts):
            judged(guard, cohort, number)
        netns.until(lambda: deliveries(guard) == delivered, f"{deliveries(guard)} of {delivered}")
    counted = hourly(guard)
    assert counted["delivery"] == delivered
    assert counted["session"] == log.read_text().count(": connect from ")
    assert counted["decision"] == counted["decisions"]
    assert twice(guard) == []
    assert vigil.sent > 100
    assert vigil.answers == []


def test_killed_at_random_under_load(lab: Lab, guard: Daemon, log: Path) -> None:
    """What is active at the end is what one that was never killed decides of the same log."""
    rng = random.Random(3)
    sources = [f"100.80.{n}.9" for n in range(50)]
    sessions = flood(sources, 10_000, time.time(), 10**9)
    cohort = Cohort(40)
    kills = 0
    with Vigil(lab.client, BANNED) as vigil:
        for lines in cohort.steps():
            for part in range(5):
                append(log, list(islice(sessions, 60)) + lines[part::5])
                if not guard.ended() and rng.random() < 0.25:
                    time.sleep(rng.random() * 0.05)  # anywhere in what it is doing just now
                    guard.kill()
                    kills += 1
                elif guard.ended():
                    guard.start()
        if guard.ended():
            guard.start()
        judged(guard, cohort, 0)
        netns.until(partial(read, guard), "all is read")
    output = guard.command("replay", "--json", str(log)).stdout.splitlines()
    decided = [json.loads(line) for line in output[:-1]]
    fates = {row.subject: row.action for row in guard.rows() if row.subject != BANNED}
    assert {subject for subject, fate in fates.items() if fate == "ban"} == {
        each["subject"] for each in decided if each["action"] == "ban"
    }
    assert set(fates) == {each["subject"] for each in decided}
    assert twice(guard) == []
    assert kills > 5
    assert set(sources) < set(fates)
    assert vigil.answers == []
