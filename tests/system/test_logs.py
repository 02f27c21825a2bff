"""Whatever is done to the log: the daemon counts each line, and once.

The lines are written here, into a log of our own, so that every one of them matters: see
`lab.exact`. Rotation of Postfix's and rsyslog's own log is in test_rotation.py.
"""

import gzip
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import pytest

from lab.daemon.daemon import THROTTLED, Daemon, daemon
from lab.daemon.exact import STEPS, Cohort
from lab.mail.logs import flood
from lab.mail.postfix import Lab
from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix]

_NOBODY = 65534


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log" / "mail.log"
    path.parent.mkdir()
    return path


@pytest.fixture
def guard(lab: Lab, log: Path) -> Iterator[Daemon]:
    with daemon(lab.server, lab.mail.config, f'[log]\nfiles = ["{log}"]\n') as made:
        yield made
    lab.server.run("nft", "flush", "ruleset")


def append(log: Path, lines: list[str]) -> None:
    with log.open("a") as file:
        file.writelines(lines)


def read(guard: Daemon) -> bool:
    return all(tail.lag == 0 for tail in guard.status().tails)


def judged(guard: Daemon, cohort: Cohort) -> None:
    netns.until(lambda: not cohort.judge(guard.rows()).lost, f"no line is lost: {guard.status()}")
    assert cohort.judge(guard.rows()).twice == []


def shift(log: Path) -> None:
    """Rename the log and its generations, as logrotate does."""
    for number in range(30, 0, -1):
        for end in ("", ".gz"):
            old = log.with_name(f"{log.name}.{number}{end}")
            if old.exists():
                old.rename(log.with_name(f"{log.name}.{number + 1}{end}"))
    log.rename(log.with_name(f"{log.name}.1"))


def pack(log: Path) -> None:
    """Compress the latest generation and remove it, as logrotate does without delaycompress."""
    subprocess.run(["gzip", "-1", f"{log}.1"], check=True)


class Writer:
    """Writes at the rate of the fastest Postfix, and goes on in a renamed file for a while."""

    RATE = 8_600  # lines a second that postlogd can write

    def __init__(self, log: Path, every: float = 0.1) -> None:
        self.log = log
        self.lines = 0
        self.every = every
        sources = [f"100.{80 + n // 256}.{n % 256}.9" for n in range(4000)]
        self._load = flood(sources, 10**9, time.time(), self.RATE)
        self._file: IO[str] = log.open("a")
        self._due = time.monotonic()

    def rotate(self, lines: list[str]) -> None:
        text = [*islice(self._load, int(self.RATE * self.every / 4)), *lines]
        self._file.writelines(text)
        self._file.flush()
        self.lines += sum(each.count("\n") for each in text)
        self._due += self.every
        time.sleep(max(0.0, self._due - time.monotonic()))  # the rate is the test's subject

    def reopen(self) -> None:
        self._file.close()
        self._file = self.log.open("a")

    def close(self) -> None:
        self._file.close()


@pytest.mark.long
def test_rotated_every_second_under_load_with_restarts(guard: Daemon, log: Path) -> None:
    """Each second: renamed, written to for 0.3 s more; every other one compressed while we are
    killed or stopped, not read to its end before."""
    cohort = Cohort(80)
    writer = Writer(log)
    guard.start()
    for number, lines in enumerate(cohort.steps()):
        parts = [lines[part::9] for part in range(9)]
        for part in parts[:3]:
            writer.rotate(part)
        restarting = number % 2
        if restarting:
            guard.kill() if number % 4 == 1 else guard.stop()
        shift(log)
        for part in parts[3:6]:
            writer.rotate(part)
        writer.reopen()
        if restarting:
            pack(log)
            guard.start()
        for part in parts[6:]:
            writer.rotate(part)
    writer.close()
    judged(guard, cohort)
    assert len(list(log.parent.glob("*.gz"))) == STEPS // 2


def replace_directory(log: Path) -> None:
    log.parent.rename(log.parent.with_name("old"))
    log.parent.mkdir()


def relink(log: Path) -> None:
    """The log is a link to today's file, and tomorrow's is another."""
    today, tomorrow = log.with_name("today"), log.with_name("tomorrow")
    log.rename(today)
    log.symlink_to(today)
    append(log, ["\n"])
    new = log.with_name("link")
    new.symlink_to(tomorrow)
    new.rename(log)


def remove(log: Path) -> None:
    log.unlink()


def replace(log: Path) -> None:
    """A copy takes the place of the file, as `sed -i` and editors do."""
    copy = log.with_name("copy")
    shutil.copyfile(log, copy)
    copy.rename(log)


def compress(log: Path) -> None:
    data = log.read_bytes()
    log.with_name(f"{log.name}.1.gz").write_bytes(gzip.compress(data))
    log.unlink()


@pytest.mark.parametrize(
    ("happening", "killed"),
    [
        (replace_directory, False),
        (remove, False),
        # With a restart, what was counted before can only be counted again if it is still there.
        *((each, killed) for each in (relink, replace, compress) for killed in (False, True)),
    ],
)
def test_what_happens_to_the_path(
    guard: Daemon, log: Path, happening: Callable[[Path], None], *, killed: bool
) -> None:
    cohort = Cohort(16)
    append(log, [])
    guard.start()
    for number, lines in enumerate(cohort.steps()):
        if number == STEPS // 2:
            netns.until(partial(read, guard), "what may be gone is read")
            if killed:
                guard.kill()
            happening(log)
        append(log, lines)
    if killed:
        guard.start()
    judged(guard, cohort)


def test_not_there_at_start_and_not_at_a_restart(guard: Daemon, log: Path) -> None:
    cohort = Cohort(16)
    steps = cohort.steps()
    guard.start()
    guard.kill()
    for lines in islice(steps, 3):
        append(log, lines)
    guard.start()
    for lines in steps:
        append(log, lines)
    judged(guard, cohort)


def test_permission_lost_and_regained(guard: Daemon, log: Path) -> None:
    """Rotated, and the new log is created so that root without capabilities may not read it."""
    guard.program = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", THROTTLED)
    cohort = Cohort(16)
    append(log, [])
    guard.start()
    steps = cohort.steps()
    for lines in islice(steps, 3):
        append(log, lines)
    shift(log)
    closed = log.with_name("closed")  # it is never open to the daemon, not even for an instant
    closed.touch(mode=0o600)
    os.chown(closed, _NOBODY, _NOBODY)
    closed.rename(log)
    netns.until(lambda: guard.status().health, "it says that it may not read")
    for lines in islice(steps, 5):
        append(log, lines)
    log.chmod(0o644)
    netns.until(lambda: not guard.status().health, "it may read again")
    for lines in steps:
        append(log, lines)
    judged(guard, cohort)


def test_copytruncate_loses_what_is_written_in_between_and_no_more(
    guard: Daemon, log: Path
) -> None:
    """By a real logrotate, before which all is read: at most what is written while it runs."""
    settings = log.with_name("logrotate.conf")
    settings.write_text(f"{log} {{\n copytruncate\n rotate 99\n nocompress\n}}\n")
    settings.chmod(0o600)
    writer = Writer(log, every=0.01)
    guard.start()
    meanwhile = 0
    for _ in range(6):
        for _ in range(10):
            writer.rotate([])
        netns.until(partial(read, guard), "all so far is read")
        before = writer.lines
        with subprocess.Popen(["logrotate", "-f", "-s", f"{log}.state", settings]) as rotating:
            while rotating.poll() is None:
                writer.rotate([])
        assert rotating.returncode == 0
        meanwhile += writer.lines - before
    writer.close()
    netns.until(partial(read, guard), "all is read")
    lost = writer.lines - guard.status().lines
    assert 0 <= lost <= meanwhile, f"{lost} of {writer.lines}, {meanwhile} meanwhile"
