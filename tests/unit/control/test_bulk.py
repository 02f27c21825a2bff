"""Requests about many subjects, on the wire."""

import pytest

from throttled.control import wire
from throttled.control.bulk import MAX_UNBANS, UnbanMany, UnbanManyResult
from throttled.control.fields import Part
from throttled.errors import UsageError


def test_subjects_and_networks_become_canonical() -> None:
    request = UnbanMany(["198.51.100.7", "2001:DB8::1"], within="198.51.100.7/24")
    expected = UnbanMany(["198.51.100.7", "2001:db8::1"], within="198.51.100.0/24")
    assert wire.decode_request(wire.encode(request)) == expected
    with pytest.raises(UsageError):
        wire.decode_request(wire.encode(UnbanMany(["nonsense"])))


def test_no_more_than_a_request_holds() -> None:
    with pytest.raises(UsageError, match=r"not a request|longer"):
        wire.decode_request(wire.encode(UnbanMany(["198.51.100.7"] * (MAX_UNBANS + 1))))


def test_the_record_of_a_part_names_its_command() -> None:
    request = UnbanMany(["198.51.100.7"] * 9, part=Part("0123456789", 2, last=False))
    text = wire.summary(request)
    assert (text.count("198.51.100.7"), "0123456789" in text) == (1, True)
    assert wire.summary(UnbanMany(["198.51.100.7"] * 9)).count("198.51.100.7") == 3


def test_a_result_of_none() -> None:
    assert UnbanManyResult(0, [], confirmed=True).more is False
