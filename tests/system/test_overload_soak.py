"""A short `make soak-overload`: one attack, in which everything that must hold does."""

import json
import subprocess
from pathlib import Path

import pytest

from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]


def test_a_short_soak() -> None:
    soak = Path(netns.__file__).parents[3] / "scripts/soak-overload"
    command = [str(soak), "--seconds", "20", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        out, err = child.communicate(timeout=4 * netns.DEADMAN)
    assert json.loads(out)["errors"] == [], err
    assert child.returncode == 0, err
    assert netns.leftovers(child.pid) == []
