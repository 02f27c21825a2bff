"""What a type of the schema allows, and values, in words and in TOML. Pure, owns no state."""

import json
import re

from msgspec import Struct, inspect

from throttled.duration import Duration

DURATION = 'a duration such as "90s", "10m", "1h30m", "4h", "1d" or "2w"'

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_LONGEST = 60


def allowed(hint: object) -> str:
    """Say which values a type allows, as the end of the sentence "must be …"."""
    return _words(inspect.type_info(hint))


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            words = str(extra["form"]) if extra else _words(inner)
        case inspect.UnionType(types=types):
            parts = [_words(part) for part in types if not isinstance(part, inspect.NoneType)]
            words = " or ".join(sorted(parts, key=lambda part: part[0] != '"'))
        case inspect.LiteralType(values=values):
            words = _join([json.dumps(value) for value in values], "or")
        case inspect.IntType(ge=low, le=high):
            words = f"a whole number from {low} to {high}"
        case inspect.BoolType():
            words = "true or false"
        case inspect.VarTupleType(item_type=item, min_length=least):
            words = f"a list{' of at least one' if least else ''}, each item {_words(item)}"
        case inspect.DictType(value_type=value):
            words = f"a table, each value {_words(value)}"
        case inspect.StructType(cls=cls):
            words = f"a table with {_join(list(cls.__struct_encode_fields__), 'and')}"
        case inspect.CustomType(cls=cls) if cls is Duration:
            words = DURATION
        case _:
            words = "a text in quotes"
    return words


def _join(words: list[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def settings(section: Struct) -> list[tuple[str, object]]:
    """Return the keys of a section, as an operator writes them, with their values."""
    names = zip(section.__struct_encode_fields__, section.__struct_fields__, strict=True)
    return [(key, getattr(section, name)) for key, name in names]


def toml(value: object) -> str:
    """Write a value of the schema in TOML, on one line; what is None in a table is left out."""
    match value:
        case bool():
            text = "true" if value else "false"
        case Duration():
            text = f'"{value}"'
        case str():
            text = json.dumps(value)
        case tuple():
            text = f"[{', '.join(map(toml, value))}]"
        case Struct():
            text = toml(dict(settings(value)))
        case dict():
            pairs = [f"{dotted([k])} = {toml(v)}" for k, v in value.items() if v is not None]
            text = f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case _:
            text = str(value)
    return text


def shown(value: object, *, inside: bool = False) -> str:
    """Show what somebody wrote, shortened, without control characters."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = json.dumps(value[: _LONGEST + 1])
        case int() if abs(value) >= 10**_LONGEST:  # str() refuses numbers of thousands of digits
            text = "a number of many digits"
        case list() if value and inside:
            text = "[…]"
        case list():
            text = f"[{', '.join(shown(item, inside=True) for item in value[:9])}]"
        case dict():
            text = "{…}" if value else "{}"
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def dotted(key: list[str] | tuple[str, ...]) -> str:
    """Write a key as in TOML: dotted, quoted where it must be."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else shown(part) for part in key)
