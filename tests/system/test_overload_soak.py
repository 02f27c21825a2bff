"""A short `make soak-overload`: one attack, in which everything that must hold does."""

import pytest

from lab.show.soak_overload import main

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]


def test_a_short_soak() -> None:
    assert main(["--seconds", "20", "--json"]) == 0
