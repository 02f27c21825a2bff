"""Addresses in networks."""

import pytest

from throttled.decide import place
from throttled.decide.place import Place


def test_an_address_is_in_a_network_also_when_it_is_asked_for_again() -> None:
    inside = Place(["198.51.100.0/24", "2001:db8::/32"])
    for _ in range(2):
        assert "198.51.100.7" in inside
        assert "2001:db8::7" in inside
        assert "203.0.113.7" not in inside
        assert "unknown" not in inside


def test_what_is_remembered_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_ADDRESSES", 2)
    inside = Place(["198.51.100.0/24"])
    for number in range(5):
        assert f"198.51.100.{number}" in inside
    assert len(inside._known) <= 2
