"""Reads the configuration: a file, and those in the directory beside it. Owns no state.

`throttled.toml` is followed by the files `throttled.d/*.toml` in the order of their names; a key in
a later file replaces that of an earlier one. Any files give either a `Config` or a `ConfigError`
that names every error it can, each with file, line, key, value and what is allowed. Limits: 1 MiB
a file, 100 files, twenty errors reported.
"""

import tomllib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from throttled.config import checks, places, validate
from throttled.config.checks import Invalid
from throttled.config.describe import dotted, shown
from throttled.config.places import Places
from throttled.config.schema import Config
from throttled.errors import ConfigError
from throttled.limits import default_limits

DEFAULT_PATH = "/etc/throttled/throttled.toml"

_LARGEST = 1 << 20  # bytes
_MOST_FILES = 100
_MOST_ERRORS = 20
_AFTER = "correct the file, then run: throttled check"


class Loaded(Struct, frozen=True):
    """A configuration and where it was written."""

    config: Config
    files: tuple[str, ...]  # in the order in which they were read
    places: Places


def load(path: str | None = None) -> Config:
    """Read the file at `path`; without one the file at `DEFAULT_PATH`, which may be absent.

    Raises:
        ConfigError: a file cannot be read, or they are not a valid configuration.
    """
    return read(path).config


def read(path: str | None = None) -> Loaded:
    """Read as `load` does, and return also what was written where.

    Raises:
        ConfigError: a file cannot be read, or they are not a valid configuration.
    """
    name = DEFAULT_PATH if path is None else path
    text = _text(name, optional=path is None)
    texts = [] if text is None else [(name, text)]
    for each in further(name):
        text = _text(each)
        assert text is not None  # noqa: S101 - only an optional file has none
        texts.append((each, text))
    return _loaded(texts, name)


def loads(text: str, name: str) -> Config:
    """Read a configuration from TOML; `name` stands for it in errors.

    Raises:
        ConfigError: it is not TOML, or not a valid configuration.
    """
    return _loaded([(name, text)], name).config


def _directory(name: str) -> Path:
    """Return the directory of further files beside a configuration file."""
    return Path(name).with_suffix(".d")


def further(name: str) -> list[str]:
    """Return the further files, in order; hidden ones do not count.

    Raises:
        ConfigError: the directory cannot be read, there are too many, or one is no file.
    """
    beside = _directory(name)
    try:
        names = sorted(each.name for each in beside.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{beside}: {error.strerror}", "run as root") from error
    found = [n for n in names if n.endswith(".toml") and not n.startswith(".")]
    if len(found) > _MOST_FILES:
        raise ConfigError(f"{beside}: more than {_MOST_FILES} files", "join some of them")
    paths = [beside / each for each in found]
    for path in paths:
        if path.is_fifo() or path.is_char_device():  # the daemon would wait for it
            raise ConfigError(f"{path}: no regular file", "remove it")
    return [str(path) for path in paths]


def _text(name: str, *, optional: bool = False) -> str | None:
    """Return the text of a file; None where it is optional and absent.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with Path(name).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        if optional:
            return None
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
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8", "save the file as UTF-8") from error


def _loaded(texts: Sequence[tuple[str, str]], name: str) -> Loaded:
    """Put files together.

    Args:
        texts: name and text of each; the last counts.
        name: stands in errors that are of no file.

    Raises:
        ConfigError: see `load`.
    """
    document: dict[str, Any] = {}
    written: Places = {}
    for each, text in texts:
        layer = _document(text, each)
        places.note(written, layer, text, each)
        document = _over(document, layer)
    if isinstance(document.get("limits"), dict):
        defaults = msgspec.to_builtins(default_limits(), enc_hook=str)
        document["limits"] = _over(defaults, document["limits"])
    found = list(islice(validate.errors(document), _MOST_ERRORS + 1))
    if not found:
        config = msgspec.convert(document, Config, dec_hook=validate.to_duration)
        found = list(checks.errors(config, written))
        if not found:
            return Loaded(config, tuple(each for each, _ in texts), written)
    raise ConfigError(_message(found, document, written, [n for n, _ in texts] or [name]), _AFTER)


def _document(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{name}: not TOML: {what}", _AFTER) from error


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay one table over another, key by key."""
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        both[key] = (
            _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return both


def _message(
    found: list[Invalid], document: dict[str, Any], written: Places, names: list[str]
) -> str:
    """Write the errors as FILE:LINE: KEY = VALUE: what is wrong, a line each, in file order."""
    messages = []
    for key, what in found[:_MOST_ERRORS]:
        place = places.find(written, key) or places.Place(names[0], 0)
        value: Any = document
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        setting = dotted(key)
        if value is not None and not isinstance(value, dict):
            setting += f" = {shown(value)}"
        order = names.index(place.name), place.line
        messages.append((*order, f"{place}: {setting}: {what}"))
    more = [f"{names[0]}: and more of this kind"] if found[_MOST_ERRORS:] else []
    return "\n".join([text for _, _, text in sorted(messages)] + more)
