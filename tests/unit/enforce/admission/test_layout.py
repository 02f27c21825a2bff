"""The maps of admission control, as bytes."""

import sys
from pathlib import Path

import pytest

from lab.programs.layouts import disagreements
from throttled import address
from throttled.enforce.admission import layout
from throttled.enforce.admission.protocol import KNOWN, AdmissionLimits

HEADER = Path(layout.__file__).parents[2] / "bpf" / "admission.h"
RECORDS = {
    "limits": (
        layout.LIMITS,
        ("until", "turn", "base", "cap", "pace", "dropping", "places"),
    ),
    "state": (
        layout.STATE,
        (
            *("lock", "in_slot", "open", "slot", "half", "second"),
            *("pending", "completed", "lost", "admitted"),
        ),
    ),
    "source": (layout.SOURCE, ("address",)),
    "delay": (layout.DELAY, ("count", "last")),
}
CONSTANTS = {
    name: getattr(layout, name)
    for name in (
        *("KNOWN_NETWORKS", "NETWORKS", "DELAYED", "SLOT", "HALF", "SECOND"),
        *("LATE", "CAP", "PACE", "TURN", "REASONS"),
    )
}
V4, V6 = bytes([198, 18, 7, 9]), bytes.fromhex("20010db8000b0007") + bytes(7) + b"\x09"
MAPPED = bytes(10) + b"\xff\xff" + V4


def test_python_and_c_agree() -> None:
    assert disagreements(HEADER, RECORDS, {**CONSTANTS, "KNOWN": KNOWN}) == ""


def test_a_key_of_the_trie_begins_with_its_prefix() -> None:
    """In C the key is the struct without its first member, `unused`, of four bytes."""
    _address, key = layout.keys_of(V4)
    assert key == (128).to_bytes(4, sys.byteorder) + MAPPED


def test_limits() -> None:
    limits = AdmissionLimits(cap=80, pace=8, turn=1.5, dropping=False, places=30)
    packed = layout.pack_limits(limits, -3, 77)
    assert layout.LIMITS.unpack(packed) == (77, 1_500_000_000, -3, 80, 8, 0, 30)
    nothing = layout.LIMITS.unpack(layout.pack_limits(AdmissionLimits(-1), 0, 0))
    assert nothing[3:] == (0, 0, 1, 0)


def test_without_places_of_their_own_there_are_as_many_as_the_cap() -> None:
    assert [AdmissionLimits(80, places=n).most for n in (0, 20, 100)] == [80, 20, 80]


def test_ports() -> None:
    packed = layout.pack_ports((25, 65_535))
    assert {port for port, ours in enumerate(packed) if ours} == {25, 65_535}
    assert len(packed) == 65_536


def test_nothing_is_open_at_first() -> None:
    assert layout.State.unpack(layout.first_state()) == layout.State(0, 0, (0, 0), 0)


def test_what_is_pending_grows_old() -> None:
    state = layout.State(0, 7, (5, 3), 0)
    half = layout.HALF
    assert [state.waiting(at * half) for at in (7, 8, 9, 100)] == [8, 5, 0, 0]
    assert state.waiting(8 * half - 1) == 8


@pytest.mark.parametrize(
    ("subject", "where", "key"),
    [
        ("198.18.7.9", 0, MAPPED),
        ("2001:db8:b:7::9", 0, V6),
        ("198.18.7.0/24", 1, (120).to_bytes(4, sys.byteorder) + MAPPED[:15] + b"\0"),
        ("2001:db8:b:7::/64", 1, (64).to_bytes(4, sys.byteorder) + V6[:8] + bytes(8)),
    ],
)
def test_known_subjects(subject: str, where: int, key: bytes) -> None:
    found = layout.known([subject])
    assert found[where] == {key: subject}
    assert found[1 - where] == {}


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="account"):
        layout.known(["account:alice"])


def test_an_address_is_looked_up_by_itself_and_in_the_trie() -> None:
    prefix = (128).to_bytes(4, sys.byteorder)
    assert layout.keys_of(V6) == (V6, prefix + V6)
    assert layout.keys_of(V4) == (MAPPED, prefix + MAPPED)


def test_networks() -> None:
    assert layout.network(bytes(4) + bytes([198, 18, 7, 0])) == "198.18.7.0/24"
    assert layout.network(V6[:8]) == "2001:db8:b:7::/64"
    assert layout.network(bytes(8)) == "::/64"


@pytest.mark.parametrize(
    "client", ["198.18.7.9", "2001:db8:b:7::9", "64:ff9b::198.18.7.9", "64:ff9b:1::1"]
)
def test_the_key_of_a_network_is_that_of_its_clients(client: str) -> None:
    packed = address.parse(client)[0]
    expected = (
        "198.18.7.0/24" if client.endswith("198.18.7.9") else client.rpartition("::")[0] + "::/64"
    )
    assert layout.network(layout.network_key(packed)) == expected


def test_numbers_and_delays() -> None:
    values = layout.DELAY.pack(5, 100) + layout.DELAY.pack(9, 99)
    assert layout.numbers(values) == (5, 100, 9, 99)
    keys = V6[:8] + bytes(4) + V4[:3] + b"\0"
    assert layout.delays(keys, values, 100) == [("2001:db8:b:7::/64", 5)]
    assert len(layout.delays(keys, values, 0)) == 2
