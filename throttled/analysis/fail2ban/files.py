"""fail2ban's filter files, put together as fail2ban does: for where it is not installed. Pure.

A filter is its file in `filter.d` with what its `[INCLUDES]` name, and the options of the jail. In
its values `%(name)s`, `%(section/name)s`, `<name>` and `<section/name>` stand for other values;
tags in capitals (`<HOST>`) stay (`filters`). Owns no state.
"""

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from throttled.analysis.fail2ban.jails import read

#: Returns the text of a file in filter.d; "" where there is none.
TextOf = Callable[[str], str]
_Sections = dict[str, dict[str, str]]

_DEEPEST = 50
_FILTER = re.compile(r"\s*([\w.-]+)\s*(?:\[(.*)\])?\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^,]*))\s*(?:,|\Z)""")
_KNOWN = re.compile(r"%\(known/([\w.-]+)\)s")
_STANDS = re.compile(r"%\(([\w./-]+)\)s|<([\w-]+(?:/[\w-]+)?)>")


class Expressions(Struct):
    """The regular expressions of a filter, in fail2ban's words."""

    prefix: str
    fails: list[str]
    ignored: list[str]


def parsed(text: str) -> _Sections:
    """Read a file of fail2ban.

    Raises:
        ValueError: it is none.
    """
    parser = read([text])
    found: _Sections = {"DEFAULT": {key: value or "" for key, value in parser.defaults().items()}}
    for name in parser.sections():
        values = {key: value or "" for key, value in parser.items(name)}
        found[name] = dict(values.items() - found["DEFAULT"].items())
    return found


def expressions(filter_: str, text_of: TextOf) -> Expressions:
    """Return the expressions of a filter.

    Args:
        filter_: as in a jail: `postfix[mode=auth]`.
        text_of: reads files.

    Raises:
        ValueError: there is no such filter, or its files cannot be read.
    """
    found = _FILTER.fullmatch(filter_)
    if found is None:
        raise ValueError(f"no filter: {filter_!r}")
    sections = _sections(found[1], text_of, 0)
    options = {m[1]: m[2] or m[3] or m[4] or "" for m in _OPTION.finditer(found[2] or "")}
    values: dict[str, str] = {}
    for section in ("DEFAULT", "Definition", "Init"):
        values |= sections.get(section, {})
    values |= options
    if "failregex" not in values:
        raise ValueError(f"no filter: {filter_!r}")

    def lines(key: str) -> list[str]:
        text = expanded(values.get(key, ""), values, sections)
        return [line.strip() for line in text.split("\n") if line.strip()]

    return Expressions("".join(lines("prefregex")), lines("failregex"), lines("ignoreregex"))


def _sections(name: str, text_of: TextOf, depth: int) -> _Sections:
    """Return a filter's file, with the files that come before and after it."""
    file = name if name.endswith((".conf", ".local")) else f"{name}.conf"
    own = parsed(text_of(file))
    local = parsed(text_of(f"{file.removesuffix('.conf')}.local")) if file.endswith(".conf") else {}
    includes = own.pop("INCLUDES", {}) | local.pop("INCLUDES", {})
    merged: _Sections = {}
    if depth < _DEEPEST:
        for word in includes.get("before", "").split():
            _merge(merged, _sections(word, text_of, depth + 1))
    for sections in (own, local):
        _merge(merged, sections)
    if depth < _DEEPEST:
        for word in includes.get("after", "").split():
            _merge(merged, _sections(word, text_of, depth + 1))
    return merged


def _merge(below: _Sections, top: _Sections) -> None:
    """Lay sections over others; `%(known/name)s` stands for the value below."""
    for name, values in top.items():
        known = below.get("DEFAULT", {}) | below.get(name, {})

        def stands(match: re.Match[str], known: Mapping[str, str] = known) -> str:
            return known.get(match[1], match[0])

        below.setdefault(name, {}).update(
            {key: _KNOWN.sub(stands, value) for key, value in values.items()}
        )


def expanded(text: str, values: Mapping[str, str], sections: _Sections) -> str:
    """Return a value with what other values stand for in it; what is unknown stays."""

    def stands(match: re.Match[str]) -> str:
        section, _, key = (match[1] or match[2]).rpartition("/")
        known = values if not section else sections.get(section, {})
        return known.get(key, match[0])

    for _ in range(_DEEPEST):
        further = _STANDS.sub(stands, text)
        if further == text or len(further) > 100_000:
            break
        text = further
    return text
