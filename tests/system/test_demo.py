"""`make demo` succeeds, says so, and leaves nothing."""

import json
import subprocess
from pathlib import Path

import pytest

from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]


def test_the_demo_succeeds() -> None:
    """The whole of it: five attacks by a hundred sources, all stopped, all good mail delivered."""
    demo = Path(netns.__file__).parents[3] / "scripts/demo"
    child = subprocess.Popen(
        [demo, "--quick", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=4 * netns.DEADMAN)
    figures = json.loads(out)
    assert figures["errors"] == [], err
    assert child.returncode == 0, err
    runs = figures["runs"]
    assert figures["attacks"]["flood"]["stopped"] == figures["attacks"]["flood"]["sources"] > 20
    assert runs["with"]["connections_end"] < runs["without"]["connections_end"] / 2
    assert netns.leftovers(child.pid) == []
