"""What is counted."""

from throttled.enforce.admission.protocol import AdmissionCounts


def test_dropped_is_the_sum_of_the_reasons() -> None:
    assert AdmissionCounts(dropped_cap=1, dropped_pace=2, dropped_turn=4).dropped == 7
