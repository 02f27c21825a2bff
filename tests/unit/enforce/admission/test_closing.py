"""Means without a counter of their own: when they write rules, and when they close the ports."""

from collections.abc import Iterable

from throttled.enforce.admission.closing import Closing
from throttled.enforce.admission.protocol import AdmissionLimits


class Noted(Closing):
    """Writes down what it would do."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[AdmissionLimits] = []
        self.closed: list[bool] = []

    def _make(self) -> None: ...

    def _activate(self) -> None: ...

    def _put_rules(self, limits: AdmissionLimits) -> None:
        self.rules.append(limits)

    def _close(self, *, closed: bool) -> None:
        self.closed.append(closed)

    def _add(self, addresses: Iterable[str]) -> None: ...

    def _delete(self, addresses: Iterable[str]) -> None: ...

    def _renetwork(self, networks: set[str]) -> None: ...

    def _remove(self) -> None: ...


def test_places_change_no_rules() -> None:
    """They change with each look; new rules begin with a whole burst of the pace."""
    some = Noted()
    some.start([1], AdmissionLimits(80, 8, places=10), [])
    some.correct(20)
    some.limit(AdmissionLimits(80, 8, places=30))
    assert some.closed[-3:] == [False, True, False]
    assert len(some.rules) == 1
    some.limit(AdmissionLimits(80, 8, 10.0, places=30))
    assert len(some.rules) == 2


def test_after_another_start_there_are_rules() -> None:
    some = Noted()
    for number in (1, 2):
        some.start([1], AdmissionLimits(80, 8), [])
        assert len(some.rules) == number
