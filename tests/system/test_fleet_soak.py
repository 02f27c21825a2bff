"""A short `make soak-fleet`: everything is killed, and in the end all hosts and streams agree."""

import pytest

from lab.fleet.soak import soak

pytestmark = [pytest.mark.root, pytest.mark.long]


def test_a_short_soak() -> None:
    done = soak(10, seed=1)
    assert sum(done.values()) > 5, done
