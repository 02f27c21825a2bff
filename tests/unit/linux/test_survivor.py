"""Work that is finished, whichever of the two processes is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from throttled.linux.survivor import survive


def test_the_result_is_the_childs() -> None:
    assert survive(lambda: b"%d" % os.getpid(), lambda: b"recovered") != b"%d" % os.getpid()


def _killed() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b"never"


def test_a_killed_child_is_recovered() -> None:
    assert survive(_killed, lambda: b"%d" % os.getpid()) == b"%d" % os.getpid()


def test_an_error_nobody_foresaw_is_shown_and_recovered(capfd: pytest.CaptureFixture[str]) -> None:
    assert survive(lambda: b"%d" % (1 // 0), lambda: b"recovered") == b"recovered"
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_neither(number: signal.Signals) -> None:
    def work() -> bytes:
        os.kill(os.getppid(), number)
        os.kill(os.getpid(), number)
        return b"done"

    assert survive(work, lambda: b"recovered") == b"done"


def test_a_killed_parent_is_outlived(tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = (
        "import os, pathlib, signal\n"
        "from throttled.linux.survivor import survive\n"
        "def work():\n"
        "    parent = os.getppid()\n"
        "    os.kill(parent, signal.SIGKILL)\n"
        "    while os.getppid() == parent: pass\n"
        f"    pathlib.Path({str(done)!r}).write_text(str(os.getpid()))\n"
        "    return b'x' * 1_000_000\n"
        "survive(work, lambda: b'')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    end = time.monotonic() + 60
    while not (gone := _ended(done)) and time.monotonic() < end:
        time.sleep(0.01)
    assert gone


def _ended(done: Path) -> bool:
    """Return whether the child did its work, and has ended although nobody reads its result."""
    child = done.read_text() if done.exists() else ""
    return bool(child) and not psutil.pid_exists(int(child))
