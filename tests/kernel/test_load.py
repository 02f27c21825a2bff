"""The programs with exactly the capabilities that the packaged unit has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.machine.bpffs import bpffs
from lab.network.netns import namespace
from throttled.bpf.bindings import RIGHTS
from throttled.enforce.xdp.backend import Xdp
from throttled.health.probes.unit import capabilities, limited

UNITS = Path(__file__).resolve().parents[2] / "packaging/systemd"
UNIT, DROP_IN = "throttled.service", "xdp.conf"
SENSOR = "from throttled.sources.sensor import Sensor; Sensor()"
ADMISSION = (
    "from throttled.bpf.libbpf import OBJECTS, Object; Object(OBJECTS / 'admission.o').load()"
)
XDP = "from throttled.bpf.libbpf import OBJECTS, Object; Object(OBJECTS / 'xdp.o').load()"

pytestmark = pytest.mark.root


def confined(code: str, *files: str) -> subprocess.CompletedProcess[str]:
    """Run code with the capabilities that these files of systemd leave."""
    texts = [(UNITS / name).read_text() for name in files]
    lines = [re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE) for text in texts]
    names = [word.removeprefix("CAP_").lower() for line in lines for word in line[0].split()]
    bounds = ",".join(("-all", *(f"+{name}" for name in names)))
    argv = ["setpriv", "--inh-caps=-all", f"--bounding-set={bounds}", sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("code", "files"), [(SENSOR, [UNIT]), (ADMISSION, [UNIT]), (XDP, [UNIT, DROP_IN])]
)
def test_it_loads_with_the_capabilities_of_the_unit(code: str, files: list[str]) -> None:
    done = confined(code, *files)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_check_tries_what_the_unit_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDP without its drop-in, with all capabilities in the shell of the one who checks."""
    bounds = "cap_chown cap_dac_read_search cap_net_admin cap_net_raw cap_bpf"
    systemctl(monkeypatch, tmp_path, f"LoadState=loaded\nCapabilityBoundingSet={bounds}\n")
    with bpffs() as mounted, namespace("check") as place, place.entered():
        backend = Xdp(pins=mounted / "throttled")
        with limited(capabilities()):
            (finding,) = backend.check()
        assert (finding.state, finding.hint) == ("fault", RIGHTS)
        assert [finding.state for finding in backend.check()] == ["ok"]


def systemctl(monkeypatch: pytest.MonkeyPatch, directory: Path, answer: str, code: int = 0) -> None:
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)


def test_the_capabilities_of_the_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    systemctl(monkeypatch, tmp_path, "CapabilityBoundingSet=cap_chown cap_bpf\nLoadState=loaded\n")
    assert capabilities() == 1 << 0 | 1 << 39
    systemctl(monkeypatch, tmp_path, "LoadState=loaded\nCapabilityBoundingSet=\n")
    assert capabilities() == 0
    systemctl(monkeypatch, tmp_path, "LoadState=not-found\nCapabilityBoundingSet=cap_bpf\n")
    assert capabilities() is None
    systemctl(monkeypatch, tmp_path, "", 1)  # systemd is not running
    assert capabilities() is None
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert capabilities() is None


def test_capabilities_are_back_afterwards() -> None:
    def effective() -> str:
        return Path("/proc/thread-self/status").read_text().split("CapEff:")[1].split()[0]

    before = effective()
    with limited(1 << 39):
        assert int(effective(), 16) == 1 << 39
    with limited(None):
        assert effective() == before
    assert effective() == before
