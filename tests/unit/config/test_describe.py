"""Types and values in words."""

import tomllib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.config.describe import DURATION, allowed, dotted, shown, toml
from throttled.config.fields import LimitName
from throttled.config.schema import Config, Firewall
from throttled.duration import Duration, duration
from throttled.limits import Override, Thresholds


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "true or false"),
        (Literal["a", "b", "c"], '"a", "b" or "c"'),
        (Literal["auto"], '"auto"'),
        (bool | Literal["auto"], '"auto" or true or false'),
        (Duration, DURATION),
        (tuple[Duration, ...], f"a list, each item {DURATION}"),
        (
            Annotated[tuple[Duration, ...], msgspec.Meta(min_length=1)],
            f"a list of at least one, each item {DURATION}",
        ),
        (
            get_type_hints(Override, include_extras=True)["soft"],
            "a whole number from 1 to 8000000000",
        ),
        (Thresholds, "a table with soft and hard"),
        (dict[str, bool], "a table, each value true or false"),
        (str, "a text in quotes"),
        (LimitName, "a name of small letters, digits and -, at most 40 characters"),
        (Annotated[bool, msgspec.Meta(description="x")], "true or false"),
    ],
)
def test_allowed(hint: object, words: str) -> None:
    assert allowed(hint) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (7, "7"),
        ('a"b', '"a\\"b"'),
        (duration("1h30m"), '"1h30m"'),
        ((25, 587), "[25, 587]"),
        ((), "[]"),
        (Thresholds(soft=3), "{ soft = 3 }"),
        ({"postfix/2525": "mx"}, '{ "postfix/2525" = "mx" }'),
        ({}, "{}"),
    ],
)
def test_toml_is_read_back_as_the_same(value: object, text: str) -> None:
    assert toml(value) == text
    tomllib.loads(f"key = {text}")


def test_every_default_can_be_written() -> None:
    for table in (Config(), Firewall()):
        for name in table.__struct_fields__:
            assert tomllib.loads(f"key = {toml(getattr(table, name))}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        ("\x1b[31m", '"\\u001b[31m"'),
        (10**5000, "a number of many digits"),
        (-(10**5000), "a number of many digits"),
        ([1, [2], [], {"a": 1}], "[1, […], [], {…}]"),
        ({}, "{}"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    ],
    ids=range(9),
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


nested: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(nested)
def test_what_is_shown_is_short_and_printable(value: object) -> None:
    text = shown(value)
    assert len(text) <= 61
    assert text.isprintable()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_dotted_keys_are_printable(key: list[str]) -> None:
    assert dotted(key).isprintable()


def test_dotted_quotes_what_toml_would_not_take_bare() -> None:
    assert dotted(["limits", "a b", "soft"]) == 'limits."a b".soft'
    assert dotted(("", "x" * 61)) == f'"".{shown("x" * 61)}'
