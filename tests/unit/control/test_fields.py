"""What requests are made of."""

import msgspec
import pytest

from throttled.control.fields import ListName, Op, Part


@pytest.mark.parametrize("name", ["", "spamhaus-drop", "0", "a" * 40])
def test_names_of_lists(name: str) -> None:
    assert msgspec.convert(name, ListName) == name


@pytest.mark.parametrize("name", ["-a", "A", "a b", "a\n", "a" * 41, "../a"])
def test_no_names_of_lists(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, ListName)


def test_a_part_has_a_command_and_a_number() -> None:
    part = Part("0123456789", 1, last=True)
    assert msgspec.convert(msgspec.to_builtins(part), Part) == part
    for bad in ({"id": "short", "number": 1, "last": True}, {"id": "0" * 9, "number": 0}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, Part)
    assert Op.__struct_config__.tag_field == "op"
