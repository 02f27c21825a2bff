"""What the daemon logs: its priorities, and lines of decisions within bounds."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from throttled.model import Decision, Snapshot
from throttled.notify.journal import LEVELS, NOTICE, SHOWN, Formatter, Journal

BAN = Decision(10.0, "ban", "198.51.100.7", "mx", "errors", 1, 610.0, "why")
ROW = Snapshot("198.51.100.7", "mx", "ban", "errors", 1, 10.0, 610.0, "why")
THEN = Decision(610.0, "throttle", "198.51.100.7", "mx", "ladder", 0, 1210.0, "why")
RELEASE = Decision(610.0, "release", "198.51.100.7", "mx", "errors", 0, 610.0, "why")


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.DEBUG)
    return Clock()


def test_decisions_are_at_notice(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    Journal(clock, would=False)([BAN])
    Journal(clock, would=True)([BAN])
    text = "ban 198.51.100.7 scope=mx limit=errors for=10m level=1 origin=log"
    assert [(r.levelno, r.message) for r in caplog.records] == [
        (NOTICE, text),
        (NOTICE, f"would-{text}"),
    ]


def test_a_ban_ends_and_its_throttle_begins(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    Journal(clock, would=False).ended([(ROW, THEN), (ROW, RELEASE)], 2)
    expire = "expire 198.51.100.7 scope=mx limit=errors for=10m level=1 origin=log"
    assert caplog.messages == [
        expire,
        "throttle 198.51.100.7 scope=mx limit=ladder for=10m origin=log",
        expire,
    ]


def test_many_at_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(clock, would=False)
    journal([BAN] * (SHOWN + 7))
    journal.ended([(ROW, RELEASE)] * SHOWN, SHOWN + 8)
    more = "{} more decisions at once; see: throttled list"
    assert [m for m in caplog.messages if " at once" in m] == [more.format(7), more.format(8)]
    assert len(caplog.messages) == 2 * (SHOWN + 1)


def test_journald_is_never_given_more_than_it_takes(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(clock, would=False)
    for _ in range(60):
        journal([BAN] * SHOWN)
    assert len(caplog.messages) == 5000
    caplog.clear()
    clock.now = 30.0
    journal([BAN])
    assert caplog.messages[0] == ("suppressed the lines of 1000 decisions: more than 5000 in 30 s")
    clock.now = 60.0
    journal([BAN])
    assert len(caplog.messages) == 3


def test_bulk_decisions_leave_half_of_the_lines(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(clock, would=False)
    for _ in range(60):
        journal.bulk([BAN] * (SHOWN + 7))
    assert len(caplog.messages) == 2500
    journal([BAN] * SHOWN)
    assert len(caplog.messages) == 2500 + SHOWN
    caplog.clear()
    clock.now = 30.0
    journal([BAN])
    missing = 60 * (SHOWN + 7) - 2500
    assert caplog.messages[0] == (
        f"suppressed the lines of {missing} decisions: more than 5000 in 30 s"
    )


@pytest.mark.parametrize(
    ("level", "priority", "shown"),
    [
        (logging.CRITICAL, 2, "throttled: critical: a\nb"),
        (logging.ERROR, 3, "throttled: error: a\nb"),
        (logging.WARNING, 4, "throttled: warning: a\nb"),
        (NOTICE, 5, "throttled: a\nb"),
        (logging.INFO, 6, "throttled: a\nb"),
        (logging.DEBUG, 7, "throttled: debug: a\nb"),
    ],
)
def test_priorities(level: int, priority: int, shown: str) -> None:
    """Each line has one: what a client wrote cannot begin a line of another priority."""
    record = logging.LogRecord("throttled", level, "", 0, "%s", ("a\nb",), None)
    assert Formatter(journal=True).format(record) == f"<{priority}>a\n<{priority}>b"
    assert Formatter(journal=False).format(record) == shown


SCRIPT = """
import logging, os, sys
from throttled.notify import journal
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = sys.argv[1] or f"{status.st_dev}:{status.st_ino}"
journal.set_up(sys.argv[2])
log = logging.getLogger("throttled")
logging.getLogger("pyroute2").debug("of a library")
for name, level in journal.LEVELS.items():
    log.log(level, name)
"""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("stream", ["", "1:2"])
def test_the_stream(tmp_path: Path, level: str, stream: str) -> None:
    with (tmp_path / "stderr").open("w+") as stderr:
        subprocess.run([sys.executable, "-c", SCRIPT, stream, level], stderr=stderr, check=True)
        stderr.seek(0)
        lines = stderr.read().splitlines()
    names = list(LEVELS)[list(LEVELS).index(level) :]
    assert [line.split()[-1].partition(">")[2] or line.split()[-1] for line in lines] == names
    assert all(line.startswith("throttled: " if stream else "<") for line in lines)
