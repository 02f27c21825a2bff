"""Changes `mode` in the configuration, where it was written. Owns no state.

The file that sets it last is changed: the main file, or one of the directory beside it
(`throttled.d/*.toml`). Where none does, the main file gets the line, in place of the commented
default. Everything else in the file stays as it is, byte for byte.
"""

import re
import tomllib
from pathlib import Path

from msgspec import Struct

from throttled.config.load import DEFAULT_PATH, further
from throttled.errors import ConfigError, NotPermittedError
from throttled.linux.replacement import replace
from throttled.model import Mode

#: Permissions of a new file.
_NEW = 0o644
_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_SET = re.compile(r"""^[ \t]*mode[ \t]*=[ \t]*("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
_DEFAULT = re.compile(r"^#[ \t]*mode[ \t]*=.*$", re.MULTILINE)


class Written(Struct, frozen=True):
    """A file that was changed."""

    path: Path
    before: str | None  # its text; None: there was no file

    def undo(self) -> None:
        """Write what was there before."""
        if self.before is None:
            self.path.unlink(missing_ok=True)
        else:
            replace(self.path, self.before, _NEW)


def write(path: str | None, mode: Mode) -> Written:
    """Write a mode into the configuration.

    Args:
        path: the main file; None: `DEFAULT_PATH`, which may be absent.
        mode: what it becomes.

    Raises:
        ConfigError: a file is not TOML or cannot be read, or there is no place for the line.
        NotPermittedError: it may not be written.
    """
    main = Path(DEFAULT_PATH if path is None else path)
    try:
        target = next((each for each in _files(main) if _sets(_text(each))), main)
        before = _text(target) if target.exists() else None
        replace(target, _changed(before or "", mode, target), _NEW)
    except PermissionError as error:
        raise NotPermittedError(f"{error.filename}: {error.strerror}", "run as root") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{main}: {error}", "correct the file: throttled check") from error
    return Written(target, before)


def _files(main: Path) -> list[Path]:
    """Return the files of a configuration, the one that counts last first."""
    return [*map(Path, reversed(further(str(main)))), *([main] if main.exists() else [])]


def _means(text: str, mode: Mode) -> bool:
    try:
        return tomllib.loads(text).get("mode") == mode
    except tomllib.TOMLDecodeError:
        return False


def _text(path: Path) -> str:
    """Return a file's text, its line ends as they are."""
    return path.read_bytes().decode()


def _sets(text: str) -> bool:
    try:
        return "mode" in tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", "correct it: throttled check") from error


def _changed(text: str, mode: Mode, path: Path) -> str:
    """Return a file's text with another mode; only what stands before its first table counts."""
    header = _HEADER.search(text)
    end = header.start() if header else len(text)
    head, rest = text[:end], text[end:]
    line = f'mode = "{mode}"'
    if found := _SET.search(head):
        head = f'{head[: found.start(1)]}"{mode}"{head[found.end(1) :]}'
    elif found := _DEFAULT.search(head):
        head = f"{head[: found.start()]}{line}{head[found.end() :]}"
    else:
        head = f"{line}\n{head}"
    changed = head + rest
    if not _means(changed, mode):  # another spelling: "mode", a line of a text
        raise ConfigError(f"{path}: its line of mode is not understood", f"write there: {line}")
    return changed
