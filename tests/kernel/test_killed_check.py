"""What a check that is killed leaves in the kernel: gone with `purge`, or at the next check."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machine.bpffs import bpffs, within
from lab.machine.legacy import legacy_path
from lab.network.netns import namespace
from throttled.enforce.registry import choose

pytestmark = pytest.mark.root

#: Runs the check of a backend and kills itself when it calls a function, named as module:attribute.
_CHECK = """
import importlib, os, signal, sys
from throttled.health.probes.firewall import check
from throttled.enforce.registry import choose
module, _, name = sys.argv[2].partition(":")
holder = importlib.import_module(module)
*path, last = name.split(".")
for each in path:
    holder = getattr(holder, each)
setattr(holder, last, lambda *_args, **_options: os.kill(os.getpid(), signal.SIGKILL))
print(list(check(choose(sys.argv[1]))))
"""
_PURGE = "from throttled.enforce.registry import teardown; print(teardown())"
_LEFT = """
nft list ruleset; ipset list -n; iptables-legacy -w -t raw -S | grep -v ^-P
ip6tables-legacy -w -t raw -S | grep -v ^-P; find /sys/fs/bpf -path '*throttled*'
ip -o link | grep xdp; true
"""
_TABLES = "throttled.enforce.iptables.tables"
KILLED = [
    ("nftables", "throttled.enforce.nftables.backend:Nftables.lookup"),
    ("iptables", f"{_TABLES}:put"),
    ("iptables", f"{_TABLES}:remove"),
    ("iptables", "throttled.enforce.iptables.backend:Iptables.lookup"),
    ("xdp", "throttled.enforce.xdp.backend:Xdp.lookup"),
]


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with bpffs() as mounted, legacy_path() as path, namespace("killed") as place, place.entered():
        monkeypatch.setenv("PATH", path)
        yield mounted


def run(pins: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*within(pins), *argv], capture_output=True, text=True, check=False)


def left(pins: Path) -> str:
    return run(pins, "sh", "-c", _LEFT).stdout


@pytest.mark.parametrize(("backend", "killed"), KILLED)
def test_purge_removes_what_a_killed_check_left(pins: Path, backend: str, killed: str) -> None:
    done = run(pins, sys.executable, "-c", _CHECK, backend, killed)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert left(pins)
    done = run(pins, sys.executable, "-c", _PURGE)
    assert done.stdout == "(['iptables', 'nftables', 'xdp'], [])\n", done.stderr
    assert left(pins) == ""


@pytest.mark.parametrize("killed", [killed for backend, killed in KILLED[1:3]])
def test_the_next_check_removes_what_a_killed_one_left(pins: Path, killed: str) -> None:
    run(pins, sys.executable, "-c", _CHECK, "iptables", killed)
    assert "thr_check" in left(pins)
    assert [finding.state for finding in choose("iptables").check()] == ["ok"]
    assert left(pins) == ""
