"""Mounted file systems, as this process sees them. Owns no state."""

from collections.abc import Iterator
from pathlib import Path

from throttled.errors import BackendError


def mounts() -> Iterator[tuple[Path, str]]:
    """Yield where each file system is mounted and its type, in the order of mounting.

    Raises:
        BackendError: the kernel does not say, as where no file can be opened.
    """
    try:
        text = Path("/proc/self/mounts").read_text()
    except OSError as error:
        raise BackendError(f"cannot read /proc/self/mounts: {error.strerror}") from error
    for line in text.splitlines():
        _device, where, kind, *_ = line.split()
        yield Path(where), kind


def kind_at(path: Path) -> str:
    """Return the type of the file system that a path is in, or would be in."""
    best, found = Path(), ""
    for where, kind in mounts():
        if path.is_relative_to(where) and len(str(where)) >= len(str(best)):
            best, found = where, kind
    return found


def mounted(kind: str) -> Path | None:
    """Return where the first file system of a type is mounted."""
    return next((where for where, of_kind in mounts() if of_kind == kind), None)
