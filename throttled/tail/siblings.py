"""The rotated files beside a log: which is which, and in what order they were written.

A file is recognised by its inode, whatever it is called now, if it also begins with the bytes that
the position remembers; by these bytes alone where it was compressed or copied. The order of
generations is in the names that rotation gives: `mail.log.2.gz` is older than `mail.log.1`
(logrotate, savelog), `mail.log-20260821` older than `-20260822` (dateext, `postfix logrotate`).
Owns no state; the directory is read again each time.

Limits: rotated files are looked for in the directory of the log (symbolic links followed), not in
another one (logrotate's `olddir`). Names that rotation does not give (`mail.log.save`) are found by
inode only. At most `MAX_COMPARED` files are compared by content.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from msgspec import Struct

from throttled.linux.failures import shortage, unreadable
from throttled.tail.archive import UNREADABLE, Counted, inflate
from throttled.tail.position import HEAD, Position, covered, fits, recognisable

MAX_COMPARED = 64  # newest first; each one costs an open and, if compressed, inflating a block
PACKED = (".gz", ".xz", ".bz2")
#: Seconds that a newer generation may have been written last before an older one: the old file of
#: two was still written to. Left-overs of another naming scheme are far older.
_SLACK = 3600.0


class Sibling(Struct, frozen=True):
    """A file in the directory of a log."""

    path: Path
    device: int
    inode: int
    size: int
    modified: float
    scheme: str  # "log": the log itself; "number", "date": rotated so; "": no generation of it
    rank: tuple[int, str]  # ascends from old to new within a scheme

    @property
    def packed(self) -> bool:
        """Compressed."""
        return self.path.suffix in PACKED

    def head(self) -> bytes:
        """Return the first bytes of what was logged; nothing where the file cannot be read.

        Raises:
            SourceError: this host lacks descriptors or memory just now.
        """
        try:
            with Counted(self.path) as raw:
                renamed = os.fstat(raw.fileno()).st_ino != self.inode
                return b"" if renamed else self.head_of(raw)
        except UNREADABLE as error:
            if shortage(error):
                raise unreadable(str(self.path), error) from error  # type: ignore[arg-type]
            return b""

    def head_of(self, raw: Counted) -> bytes:
        """Return the first bytes of what was logged, given this file newly opened; close it.

        Raises:
            any of `UNREADABLE`: it cannot be read, or is damaged.
        """
        with raw:
            stream = inflate(raw) if self.packed else raw
            return stream.read(HEAD) or b""


def _generation(log: str, name: str) -> tuple[str, tuple[int, str]]:
    """Return what a name says of a generation of the log: its scheme and its rank."""
    if name == log:
        return "log", (0, "")
    stem, dot, suffix = log.rpartition(".")
    extended = rf"|{re.escape(stem)}[.-](\d[\d._T-]*){re.escape(dot + suffix)}" if stem else ""
    pattern = rf"(?:{re.escape(log)}[.-](\d[\d._T-]*){extended})(?:\.gz|\.xz|\.bz2)?"
    match = re.fullmatch(pattern, name)
    if match is None:
        return "", (0, "")
    label = next(group for group in match.groups() if group)
    if label.isdigit() and len(label) < 5:
        return "number", (-int(label), "")
    return "date", (0, label)


def _entries(log: Path) -> Iterator[Sibling]:
    for path in log.parent.iterdir():
        try:
            st = path.lstat()
        except FileNotFoundError:
            continue  # renamed meanwhile: the next scan finds it
        if S_ISREG(st.st_mode):
            generation = _generation(log.name, path.name)
            yield Sibling(path, st.st_dev, st.st_ino, st.st_size, st.st_mtime, *generation)


def scan(path: str) -> list[Sibling]:
    """Return the files in the directory of a log; none where it cannot be read.

    A directory read while it is being rotated may show a file twice or not at all, and names may
    be other files' afterwards: see `unchanged`.

    Raises:
        SourceError: this host lacks descriptors or memory just now: what is there is not known.
    """
    try:
        return sorted(_entries(Path(path).resolve()), key=lambda file: file.path)
    except RuntimeError:  # links in a circle
        return []
    except OSError as error:
        if shortage(error):
            raise unreadable(path, error) from error
        return []


def unchanged(path: str, files: list[Sibling]) -> bool:
    """Return whether the directory still has the same files under the same names."""
    return [(file.path, file.inode) for file in scan(path)] == [
        (file.path, file.inode) for file in files
    ]


def find(files: list[Sibling], inode: int, mark: bytes) -> Sibling | None:
    """Return the file that a position means, given its inode and fingerprint (b"": not known)."""
    generations = [file for file in files if file.scheme]
    for file in files if recognisable(mark) else generations:
        if file.inode == inode and (not mark or fits(mark, file.head())):
            return file
    if not recognisable(mark):
        return None
    generations.sort(key=lambda file: (file.packed, -file.modified))
    return next((file for file in generations[:MAX_COMPARED] if fits(mark, file.head())), None)


def overwritten(files: list[Sibling], position: Position) -> Sibling | None:
    """Return the file that a position means, where its first bytes were overwritten in place."""
    length = covered(position.before)
    if not recognisable(position.before):
        return None
    for file in files:
        if file.inode == position.inode and not file.packed and file.size >= position.offset:
            with suppress(OSError), file.path.open("rb") as raw:
                raw.seek(position.offset - length)
                if fits(position.before, raw.read(length)):
                    return file
    return None


def newer(files: list[Sibling], than: Sibling) -> list[Sibling]:
    """Return the generations between a rotated file and the log itself, oldest first."""
    since = than.modified - _SLACK
    return _unpacked(
        file
        for file in files
        if file.scheme == than.scheme and file.rank > than.rank and file.modified > since
    )


def older(files: list[Sibling], than: Sibling) -> list[Sibling]:
    """Return the generations before a file, oldest first."""
    rotated = [file for file in files if file.scheme in {"number", "date"}]
    if than.scheme != "log":
        rotated = [file for file in rotated if file.rank < than.rank]
        scheme = than.scheme
    else:  # the naming scheme now in use
        scheme = max(rotated, key=lambda file: file.modified, default=than).scheme
    return _unpacked(file for file in rotated if file.scheme == scheme)


def _unpacked(files: Iterable[Sibling]) -> list[Sibling]:
    """Sort generations from old to new; of one that is being compressed take the original."""
    chosen: dict[tuple[int, str], Sibling] = {}
    for file in sorted(files, key=lambda file: not file.packed):
        chosen[file.rank] = file
    return [chosen[rank] for rank in sorted(chosen)]
