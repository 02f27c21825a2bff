"""The maps of the sensor, as bytes."""

from pathlib import Path

from throttled.sense import layout

from lab.layouts import disagreements

HEADER = Path(layout.__file__).parents[1] / "bpf" / "sensor.h"
RECORDS = {
    "source": (layout.SOURCE, ("address", "scope")),
    "watched": (layout.WATCHED, ("netns", "scope")),
}


def test_python_and_c_agree() -> None:
    assert disagreements(HEADER, RECORDS, {"SOURCES": layout.SOURCES}) == ""


def test_a_source_of_either_version() -> None:
    mapped = bytes(10) + b"\xff\xff\xc6\x12\x00\x07"
    assert layout.source(layout.SOURCE.pack(mapped, 0)) == ("198.18.0.7", "mx")
    six = bytes.fromhex("20010db8") + bytes(11) + b"\1"
    assert layout.source(layout.SOURCE.pack(six, 1)) == ("2001:db8::1", "submission")


def test_ports_have_their_scope() -> None:
    netns, scope = layout.WATCHED.unpack(layout.watched(7, {"mx": (25,), "submission": (65535,)}))
    assert netns == 7
    assert {port: number for port, number in enumerate(scope) if number} == {25: 1, 65535: 2}
