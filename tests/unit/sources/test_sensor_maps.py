"""The maps of the sensor, as bytes."""

from pathlib import Path

from lab.programs.layouts import disagreements
from throttled.sources import sensor_maps

HEADER = Path(sensor_maps.__file__).parents[1] / "bpf" / "sensor.h"
RECORDS = {
    "source": (sensor_maps.SOURCE, ("address", "scope")),
    "watched": (sensor_maps.WATCHED, ("netns", "scope")),
}


def test_python_and_c_agree() -> None:
    assert disagreements(HEADER, RECORDS, {"SOURCES": sensor_maps.SOURCES}) == ""


def test_a_source_of_either_version() -> None:
    mapped = bytes(10) + b"\xff\xff\xc6\x12\x00\x07"
    assert sensor_maps.source(sensor_maps.SOURCE.pack(mapped, 0)) == ("198.18.0.7", "mx")
    six = bytes.fromhex("20010db8") + bytes(11) + b"\1"
    assert sensor_maps.source(sensor_maps.SOURCE.pack(six, 1)) == ("2001:db8::1", "submission")


def test_ports_have_their_scope() -> None:
    netns, scope = sensor_maps.WATCHED.unpack(
        sensor_maps.watched(7, {"mx": (25,), "submission": (65535,)})
    )
    assert netns == 7
    assert {port: number for port, number in enumerate(scope) if number} == {25: 1, 65535: 2}
