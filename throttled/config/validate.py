"""Compares a TOML document with the schema, key by key, so that every error is found. Pure.

`msgspec.convert` alone stops at the first one, and does not name the keys that an operator chose
(`[limits.NAME]`). Owns no state.
"""

import difflib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from throttled.config.checks import Invalid
from throttled.config.describe import allowed
from throttled.config.schema import Config
from throttled.duration import Duration
from throttled.limits import Limit, default_limits

#: What stands here for the words of fail2ban, which many write first.
_FAIL2BAN = {
    "maxretry": "`soft` or `hard` of a limit: [limits.auth] soft = 5",
    "findtime": '`within` of a limit: [limits.auth] within = "10m"',
    "bantime": '[ban] times = ["10m", "1h"], or `ban_times` of a limit',
    "ignoreip": '[protect] networks = ["198.51.100.0/24"], or: throttled allow',
    "ignoreself": "nothing: addresses of this host are always protected",
    "banaction": "[firewall] backend",
    "logpath": "[log] files",
    "failregex": "nothing: Postfix's lines are known; their weights are in [points]",
    "ignoreregex": "nothing: the weights of offences are in [points], 0 ignores one",
    "dbpurgeage": "[ban] forget",
}
#: Sections of jail.conf; what they set is in limits here.
_JAILS = ("DEFAULT", "Definition", "postfix-sasl", "postfix-rbl", "dovecot", "sshd", "recidive")


def errors(document: dict[str, Any]) -> Iterator[Invalid]:
    """Yield every key that is unknown, missing, or has a value that its type does not allow."""
    yield from _table(document, Config, ())


def to_duration(kind: type, value: object) -> Duration:
    """Convert for msgspec, which asks for the one type that it does not know.

    Raises:
        ValueError: it is none.
    """
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError("not a duration")


def _table(table: dict[str, Any], kind: type[Struct], at: tuple[str, ...]) -> Iterator[Invalid]:
    """Yield the errors of a table that a struct describes."""
    by_field = get_type_hints(kind, include_extras=True)
    hints = {f.encode_name: by_field[f.name] for f in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key in hints:
            yield from _value(value, hints[key], (*at, key))
        else:
            yield (*at, key), _unknown(key, hints)
    for name, hint in hints.items():
        if name not in table and name in _required(kind):
            yield at, f"{name} is missing; it must be {allowed(hint)}"


def _required(kind: type[Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind) if field.required}


def _value(value: object, hint: Any, at: tuple[str, ...]) -> Iterator[Invalid]:
    """Yield the errors of one value; a table is looked into, to name the key itself."""
    if isinstance(value, dict):
        for part in _parts(hint):
            if get_origin(part) is dict:
                yield from _named(value, part, at)
                most = next(meta.max_length for meta in hint.__metadata__ if meta.max_length)
                if len(value) > most:
                    yield at, f"must be a table of at most {most}"
                return
            if isinstance(part, type) and issubclass(part, Struct):
                yield from _table(value, part, at)
                return
    if not _fits(value, hint):
        yield at, f"must be {allowed(hint)}"


def _named(table: dict[str, Any], hint: Any, at: tuple[str, ...]) -> Iterator[Invalid]:
    """Yield the errors of a table whose keys the operator chooses."""
    key_hint, value_hint = get_args(hint)
    for key, value in table.items():
        if value_hint is Limit and (meant := _meant(key, value)):
            yield (*at, key), f"no such limit; did you mean {meant}? One of your own needs count"
            continue
        if not _fits(key, key_hint):
            yield (*at, key), f"the name must be {allowed(key_hint)}"
        yield from _value(value, value_hint, (*at, key))


def _meant(name: str, limit: object) -> str:
    """Return which limit of the defaults was meant by the name of another one; "" for none."""
    known = default_limits()
    if name in known or not isinstance(limit, dict) or "count" in limit:
        return ""
    return next(iter(difflib.get_close_matches(name.lower(), known, 1)), "")


def _fits(value: object, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint, dec_hook=to_duration)
    except msgspec.ValidationError:
        return False
    return True


def _parts(hint: Any) -> list[Any]:
    """Return the members of a union, each without its annotations."""
    if get_origin(hint) is Annotated:
        return _parts(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [part for member in get_args(hint) for part in _parts(member)]
    return [hint]


def _unknown(key: str, hints: dict[str, Any]) -> str:
    """Say what an unknown key was meant to be: one of another table, or one nearly so called."""
    if key.lower() in _FAIL2BAN:
        return f"a word of fail2ban; here it is {_FAIL2BAN[key.lower()]}"
    if key in _JAILS:
        return "a section of fail2ban; here it is [limits.NAME]; see: throttled migrate fail2ban"
    tables = [table for table, names in _keys_of_tables() if key in names]
    if tables:
        return f"unknown here; it belongs under {' or '.join(tables)}"
    close = difflib.get_close_matches(key.lower(), hints, 1)
    return (
        f"unknown; did you mean {close[0]}?" if close else f"unknown; there are {', '.join(hints)}"
    )


def _keys_of_tables() -> Iterator[tuple[str, Iterable[str]]]:
    for name, hint in get_type_hints(Config, include_extras=True).items():
        for part in _parts(hint):
            if get_origin(part) is dict:
                yield f"[{name}.NAME]", get_args(part)[1].__struct_encode_fields__
            elif isinstance(part, type) and issubclass(part, Struct):
                yield f"[{name}]", part.__struct_encode_fields__
