"""Values as Postfix's daemons accept them; what they refuse was seen with Postfix 3.7.11."""

import pytest

from throttled.maincf.values import Kind, number, unwritable, wrong


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("count", "10", 10),
        ("count", "0", 0),
        ("count", "-1", None),
        ("count", "banana", None),
        ("count", "", None),
        ("count", "१", None),
        ("bytes", "10240000", 10_240_000),
        ("time", "300s", 300),
        ("time", "5m", 300),
        ("time", "1h", 3600),
        ("time", "2d", 172_800),
        ("time", "1w", 604_800),
        ("time", "7", 7),
        ("time", "7 s", None),
        ("code", "550", 550),
        ("code", "350", None),
        ("words", "yes", None),
        ("text", "10", None),
    ],
)
def test_a_number(kind: Kind, text: str, value: int | None) -> None:
    assert number(kind, text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10", ""),
        ("451 4.3.5 Server configuration problem", ""),
        ("10\nsoft_bounce = yes", "printed"),
        (" 10", "blank"),
        ("x" * 2001, "2000"),
    ],
)
def test_what_cannot_stand_in_a_file(text: str, why: str) -> None:
    assert why in unwritable(text)
    assert bool(unwritable(text)) == bool(why)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("words", "yes", ""),
        ("words", "maybe", "none of yes, no"),
        ("text", "$mynetworks", ""),
        ("count", "10", ""),
        ("count", "1x", "whole number"),
        ("bytes", "10M", "bytes"),
        ("time", "soon", "30s"),
        ("code", "999", "550"),
    ],
)
def test_what_the_daemons_refuse(kind: Kind, text: str, why: str) -> None:
    assert why in wrong(kind, text, ("yes", "no"))
    assert bool(wrong(kind, text, ("yes", "no"))) == bool(why)
