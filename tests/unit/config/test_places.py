"""Where keys were written."""

import tomllib

from throttled.config import places
from throttled.config.places import Place, Places


def noted(*texts: str) -> Places:
    found: Places = {}
    for number, text in enumerate(texts):
        places.note(found, tomllib.loads(text), text, f"{number}.toml")
    return found


def test_headers_dotted_keys_and_inline_tables() -> None:
    found = noted('a.b = 1\n[limits."x y"]\nsoft = 2\nmx = { hard = 3 }\n[[t]]\nk = 1')
    assert found["a",] == found["a", "b"] == [Place("0.toml", 1)]
    assert found["limits", "x y", "soft"] == [Place("0.toml", 3)]
    assert found["limits", "x y", "mx", "hard"] == [Place("0.toml", 4)]
    assert found["t",] == [Place("0.toml", 5)]


def test_the_last_file_counts_and_the_innermost_table() -> None:
    found = noted("a = 1", "[b]\nc = 1\na = 2", "a = 3")
    assert places.find(found, ("a",)) == Place("2.toml", 1)
    assert places.find(found, ("b", "x")) == Place("1.toml", 1)
    assert places.find(found, ("z",)) is None
    assert str(Place("f", 0)) == "f"
    assert str(Place("f", 3)) == "f:3"


def test_text_that_looks_like_a_key_is_no_key() -> None:
    found = noted("a = '''\n\"\\q\" = 1\n'''\nb = 1")
    assert found["b",] == [Place("0.toml", 4)]


def test_a_key_that_the_scan_does_not_find_has_no_line() -> None:
    found: Places = {}
    places.note(found, {"a": 1}, "", "f")
    assert found["a",] == [Place("f", 0)]
