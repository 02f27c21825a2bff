"""Who started a process."""

import os
import subprocess
from pathlib import Path

from throttled.linux.processes import parent


def test_a_child_is_ours() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        found = parent(child.pid)
        assert found is not None
        assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
        assert found.name == Path("/proc/self/comm").read_text().strip()
        child.communicate()
    assert parent(child.pid) is None


def test_nothing_started_the_kernels_first() -> None:
    assert parent(1) is None
