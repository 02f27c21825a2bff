"""Reads the configuration file. Owns no state.

Any file gives either a `Config` or a `ConfigError` that names every error it can, each with file,
line, key, value and what is allowed. Limits: 1 MiB a file, twenty errors reported.

Lines are found by a scan for headers and keys, since `tomllib` does not tell them: inside inline
tables the line is that of the whole table, and text of several lines that looks like a key can
mislead it.
"""

import re
import tomllib
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from throttled.config import checks, validate
from throttled.config.checks import Invalid
from throttled.config.describe import dotted, shown
from throttled.config.schema import Config
from throttled.errors import ConfigError
from throttled.settings import default_limits

DEFAULT_PATH = "/etc/throttled/throttled.toml"

_LARGEST = 1 << 20  # bytes
_MOST_ERRORS = 20
_DEEPEST = 4  # limits.NAME.mx.soft
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*"
_HEADER_LINE = re.compile(rf"[ \t]*\[\[?{_KEY}\]")
_KEY_LINE = re.compile(rf"{_KEY}=")
_AFTER = "correct the file, then run: throttled check"


def load(path: str | None = None) -> Config:
    """Read the file at `path`; without one the file at `DEFAULT_PATH`, which may be absent.

    Raises:
        ConfigError: the file cannot be read, or is not a valid configuration.
    """
    name = DEFAULT_PATH if path is None else path
    try:
        with Path(name).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        if path is None:
            return Config()
        raise ConfigError(f"{name}: no such file", "name a file that exists") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a directory", "name the file in it") from error
    except PermissionError as error:
        raise ConfigError(f"{name}: permission denied", "run as root") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ConfigError(f"{name!r}: {error}", "name a file that can be read") from error
    if len(data) > _LARGEST:
        raise ConfigError(f"{name}: larger than {_LARGEST} bytes", "is this the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8", "save the file as UTF-8") from error
    return loads(text, name)


def loads(text: str, name: str) -> Config:
    """Read a configuration from TOML; `name` stands for it in errors.

    Raises:
        ConfigError: it is not TOML, or not a valid configuration.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{name}: not TOML: {what}", _AFTER) from error
    if isinstance(document.get("limits"), dict):
        defaults = msgspec.to_builtins(default_limits(), enc_hook=str)
        document["limits"] = _over(defaults, document["limits"])
    found = list(islice(validate.errors(document), _MOST_ERRORS + 1))
    if not found:
        config = msgspec.convert(document, Config, dec_hook=validate.to_duration)
        found = list(checks.errors(config))
        if not found:
            return config
    raise ConfigError(_message(found, document, text, name), _AFTER)


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay one table over another, key by key."""
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        both[key] = (
            _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return both


def _message(found: list[Invalid], document: dict[str, Any], text: str, name: str) -> str:
    """Write the faults as FILE:LINE: KEY = VALUE: what is wrong, a line each, in file order."""
    lines = _lines(text)
    messages = []
    for key, what in found[:_MOST_ERRORS]:
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), 0)
        value: Any = document
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        setting = dotted(key)
        if value is not None and not isinstance(value, dict):
            setting += f" = {shown(value)}"
        messages.append(
            (line, f"{name}:{line}: {setting}: {what}" if line else f"{name}: {setting}: {what}")
        )
    more = [f"{name}: and more of this kind"] if found[_MOST_ERRORS:] else []
    return "\n".join([text for _, text in sorted(messages)] + more)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Find the line on which each key, and each table, is first named."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
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


def _split(dotted_key: str) -> tuple[str, ...]:
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
