"""What strangers get, and what is counted."""

import pytest

from throttled.enforce.admission.protocol import AdmissionCounts, AdmissionLimits


@pytest.mark.parametrize(("places", "most"), [(0, 50), (20, 20), (80, 50), (-3, 0)])
def test_the_cap_or_the_places_that_postfix_has(places: int, most: int) -> None:
    assert AdmissionLimits(cap=50, places=places).most == most


def test_dropped_is_the_sum_of_the_reasons() -> None:
    assert AdmissionCounts(dropped_cap=1, dropped_pace=2, dropped_turn=4).dropped == 7
