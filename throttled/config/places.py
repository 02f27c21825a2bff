"""Where each key of a configuration was written: file and line. Pure, owns no state.

Lines are found by a scan for headers and keys, since `tomllib` does not tell them: inside inline
tables the line is that of the whole table, and text of several lines that looks like a key can
mislead it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from msgspec import Struct

Key = tuple[str, ...]
Value = TypeVar("Value")

_DEEPEST = 4  # limits.NAME.mx.soft
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*"
_HEADER_LINE = re.compile(rf"[ \t]*\[\[?{_KEY}\]")
_KEY_LINE = re.compile(rf"{_KEY}=")


class Place(Struct, frozen=True):
    """A line of a file."""

    name: str
    line: int  # 0: not found

    def __str__(self) -> str:
        """Return FILE:LINE."""
        return f"{self.name}:{self.line}" if self.line else self.name


#: By key, also those of tables: the places of all files that have it, the one that counts last.
Places = dict[Key, list[Place]]


def note(places: Places, document: Mapping[str, Any], text: str, name: str) -> None:
    """Add the keys of a file.

    Args:
        places: changed.
        document: what the file contains.
        text: the same as text.
        name: of the file.
    """
    lines = _lines(text)
    for key in _keys(document, ()):
        places.setdefault(key, []).append(Place(name, _innermost(lines, key) or 0))


def find(places: Places, key: Key) -> Place | None:
    """Return where a key was written last, or the innermost table around it; None: nowhere."""
    found = _innermost(places, key)
    return found[-1] if found else None


def _innermost(known: Mapping[Key, Value], key: Key) -> Value | None:
    """Return what is known of a key, or of the innermost table around it that there is."""
    return next((known[key[:n]] for n in range(len(key), 0, -1) if key[:n] in known), None)


def _keys(table: Mapping[str, Any], at: Key) -> Iterator[Key]:
    for name, value in table.items():
        key = (*at, name)
        yield key
        if isinstance(value, dict):
            yield from _keys(value, key)


def _lines(text: str) -> dict[Key, int]:
    """Find the line on which each key, and each table, is first named."""
    lines: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER_LINE.match(line):
            key = table = _split(header[1])
        elif setting := _KEY_LINE.match(line):
            key = (*table, *_split(setting[1]))
        else:
            continue
        for depth in range(1, len(key) + 1):
            lines.setdefault(key[:depth], number)
    return lines


def _split(dotted_key: str) -> Key:
    """Take a dotted key apart, as TOML does it; the schema goes no deeper than `_DEEPEST`."""
    try:
        rest: Any = tomllib.loads(f"{dotted_key} = 0")
    except tomllib.TOMLDecodeError:  # not a key, but text that looks like one
        return ()
    parts: list[str] = []
    while isinstance(rest, dict) and len(parts) < _DEEPEST:
        part, rest = next(iter(rest.items()))
        parts.append(part)
    return tuple(parts)
