"""A short `make soak`: each mishap once, and all that must hold holds."""

import json
import subprocess
from pathlib import Path

import pytest

from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]


def test_a_short_soak() -> None:
    soak = Path(netns.__file__).parents[3] / "scripts/soak"
    command = [str(soak), "--seconds", "15", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        out, err = child.communicate(timeout=4 * netns.DEADMAN)
    figures = json.loads(out)
    assert figures["errors"] == [], err
    assert child.returncode == 0, err
    assert len(figures["disturbed"]) > 3  # as many as this machine has time for
    assert figures["traced"] > 100
    assert figures["answered"] > 0  # it would have been seen
    assert figures["good_accepted"] == figures["good_sent"] > 10
    assert netns.leftovers(child.pid) == []
