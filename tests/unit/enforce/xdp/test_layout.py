"""The maps of the XDP program, as bytes."""

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.programs.layouts import disagreements
from throttled.enforce.backend import Ruleset
from throttled.enforce.xdp import layout
from throttled.enforce.xdp.layout import EVERY, Settings, Slot
from throttled.model import SCOPES, Entry, Rate

HEADER = Path(layout.__file__).parents[2] / "bpf" / "xdp.h"
RULESET = Ruleset({"mx": (25,), "submission": (465, 587)}, (), rate=10, per=60.0, burst=5, size=1)
NONE = Settings(0, 0, 0, bytes(65536))

OWN = ("count", "seconds", "burst")

RECORDS = {
    "element": (layout.ELEMENT, ("expires", "packets", "due", "rate", *OWN)),
    "settings": (layout._SETTINGS, ("rate", "interval", "tolerance", "scope")),
    "lengths": (layout._LENGTHS, ("count", "length")),
}
CONSTANTS = {
    "LAYOUT": layout.LAYOUT,
    "SLOTS": layout.SLOTS,
    "LENGTHS": layout.LENGTHS,
    "NETWORKS": Slot("mx", "ban", 4, networks=True).number,
    "THROTTLE": Slot("mx", "throttle", 4, networks=False).number,
    "EXEMPT": Slot("mx", "exempt", 4, networks=False).number,
    "SCOPE": Slot("submission", "ban", 4, networks=False).number,
    "SCOPES": len(SCOPES),
    "KEY4": len(layout.key((bytes(4), 32))),
    "KEY6": len(layout.key((bytes(16), 128))),
    "sizeof(struct subject)": len(layout.key((bytes(16), 128))),
    "offsetof(struct subject, address)": 4,
}


def test_python_and_c_agree() -> None:
    assert disagreements(HEADER, RECORDS, CONSTANTS) == ""


def test_a_disagreement_is_seen() -> None:
    assert "LAYOUT is not 0" in disagreements(HEADER, {}, {"LAYOUT": 0})
    other = {"element": (layout.ELEMENT, ("packets", "expires"))}
    assert "offsetof(struct element, packets) is not 0" in disagreements(HEADER, other, {})


def test_each_set_has_a_slot_and_a_name_of_its_own() -> None:
    assert (
        len({of.name for of in EVERY})
        == len({(of.version, of.number) for of in EVERY})
        == len(EVERY)
    )
    assert {of.number for of in EVERY} < set(range(layout.SLOTS))
    assert not any(of.networks for of in EVERY if of.action == "exempt")
    assert Slot("mx", "ban", 4, networks=False).name == "mx_ban4"
    assert Slot("submission", "throttle", 6, networks=True).name == (
        "submission_throttle6_networks"
    )


@pytest.mark.parametrize(
    ("subject", "version", "networks"),
    [
        ("198.51.100.7", 4, False),
        ("198.51.100.0/24", 4, True),
        ("0.0.0.0/0", 4, True),
        ("2001:db8::7", 6, False),
        ("2001:db8::/64", 6, True),
    ],
)
def test_a_subject_has_a_set_and_a_key(subject: str, version: int, *, networks: bool) -> None:
    of, key = layout.place(Entry(subject, "mx", "throttle", 1.0))
    assert of == Slot("mx", "throttle", version, networks)
    assert layout.subject(key) == subject
    assert f"{subject}/".split("/")[1] in ("", str(layout.prefix_of(key)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_key_is_masked(number: int, prefix: int) -> None:
    text = ".".join(map(str, number.to_bytes(4)))
    _of, key = layout.place(Entry(f"{text}/{prefix}", "mx", "ban", 1.0))
    assert int.from_bytes(key[4:]) & ((1 << 32 - prefix) - 1) == 0
    assert layout.prefix_of(key) == prefix


def test_what_is_no_subject_has_no_place() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        layout.place(Entry("mail.example.com", "mx", "ban", 1.0))


def test_settings_say_what_the_ruleset_says() -> None:
    made = Settings.of(RULESET, NONE)
    assert made.interval == 6_000_000_000
    assert made.tolerance == 24_000_000_000
    assert {port: scope for port, scope in enumerate(made.scope) if scope} == {
        25: 1,
        465: 2,
        587: 2,
    }
    assert Settings.unpack(made.pack()) == made


def test_another_rate_has_another_number() -> None:
    made = Settings.of(RULESET, NONE)
    same = msgspec.structs.replace(RULESET, ports={}, size=2, rate=5, per=30.0)
    assert Settings.of(same, made).rate == made.rate
    for change in ({"rate": 9}, {"per": 61.0}, {"burst": 4}):
        assert Settings.of(msgspec.structs.replace(RULESET, **change), made).rate == made.rate + 1


def test_a_deep_bucket_does_not_overflow() -> None:
    deep = msgspec.structs.replace(RULESET, rate=1, per=3650 * 86400.0, burst=100_000)
    made = Settings.of(deep, NONE)
    # What is due at most, and the clock of a host that has been up for a century.
    assert made.tolerance + made.interval + 100 * 366 * 86400 * 10**9 < math.pow(2, 64)
    made.pack()


def test_lengths() -> None:
    assert layout.lengths(layout.pack_lengths([])) == frozenset()
    every = range(129)
    assert layout.lengths(layout.pack_lengths(every)) == frozenset(every)
    assert layout.pack_lengths([24, 16])[4:6] == bytes([24, 16])


def test_elements() -> None:
    own = layout.own_rate(Entry("198.18.0.1", "mx", "throttle", 1.0, Rate(6, 3600.0, 2)))
    none = layout.own_rate(Entry("198.18.0.1", "mx", "ban", 1.0, Rate(6, 3600.0, 2)))
    assert none == layout.own_rate(Entry("198.18.0.1", "mx", "throttle", 1.0)) == layout.CONFIGURED
    packed = layout.ELEMENT.pack(1, 2, 3, 4, *own) + layout.ELEMENT.pack(5, 6, 7, 8, *none)
    assert list(layout.elements(packed)) == [(1, 2, Rate(6, 3600.0, 2)), (5, 6, None)]


def test_keys_of_tries() -> None:
    found = layout.tries(["198.51.100.1", "198.51.100.0/24", "198.51.100.9/24", "2001:db8::/32"])
    assert {version: len(keys) for version, keys in found.items()} == {4: 2, 6: 1}
    with pytest.raises(ValueError, match="not an IP address"):
        layout.tries(["x"])
