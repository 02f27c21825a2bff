"""Replaces a file as a whole: readers find the old text or the new one. Owns no state."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace(path: Path, text: str, mode: int) -> None:
    """Write a file in one step; its owner and permissions stay.

    Args:
        path: of the file; of a symbolic link its target is replaced.
        text: written as UTF-8, its line ends as they are.
        mode: permissions of a new file.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    target = path.resolve()
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        error.filename = str(path)  # what was named, not the file beside it
        raise
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            if target.exists():
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                mode = before.st_mode & 0o777
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
