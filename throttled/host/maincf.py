"""Changes one main.cf or master.cf: whole or not at all, with owner and mode as before.

The text is edited by Postfix's own `postconf -e` in a copy, so that comments, order, continued
lines and duplicates are its business. The file is replaced with Postfix's protocol for it
(edit_file(3)): locked, written and synced beside it as main.cf.tmp, then renamed, so that no other
`postconf -e` comes between. Another editor's change since it was read is noticed before the rename.

Owns a lock on the configuration directory while `locked`, and temporary directories.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from throttled.errors import HostError, NotPermittedError, RefusedError
from throttled.host.command import run
from throttled.host.postconf import pairs

_LARGEST = 4_194_304
#: Postfix waits until a main.cf is two seconds old (dict_load_file), as it may be half written.
#: Ours is not, and mail shall not wait.
_OLD = 3_000_000_000  # ns


class MainCf(Struct, frozen=True):
    """A main.cf as it was read."""

    path: str
    text: bytes
    mark: tuple[int, int, int]  # inode, mtime in ns, size

    @property
    def directory(self) -> str:
        """The configuration directory."""
        return str(Path(self.path).parent)


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Keep other commands of ours from changing this instance.

    Raises:
        RefusedError: another one is at work.
        HostError: the directory cannot be opened.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        what = f"another throttled postfix command is changing {directory}"
        raise RefusedError(what, "wait until it has ended") from error
    finally:
        os.close(descriptor)


def read(directory: str, name: str = "main.cf") -> MainCf:
    """Read an instance's main.cf, or its master.cf.

    Raises:
        RefusedError: it is a symbolic link or has several names: replacing it would break them.
        HostError: it cannot be read.
    """
    path = f"{directory}/{name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if Path(path).is_symlink():
            hint = f"change {os.path.realpath(path)} with what manages it"
            raise RefusedError(f"{path} is a symbolic link", hint) from error
        raise HostError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise RefusedError(f"{path} is no plain file, or has a second name (hard link)")
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise HostError(f"{path} has more than {_LARGEST} bytes")
    return MainCf(path, text, (status.st_ino, status.st_mtime_ns, status.st_size))


@contextmanager
def scratch(main: MainCf, changes: Mapping[str, str | None] | None = None) -> Iterator[Path]:
    """Make a configuration directory with a changed copy of main.cf.

    What else is in the real one is linked: `$config_directory/…` means the same there.

    Args:
        main: the file to start from.
        changes: new values by name; None removes the parameter.

    Raises:
        HostError: postconf refuses.
    """
    with tempfile.TemporaryDirectory(prefix="throttled-postfix-") as name:
        place = Path(name)
        for entry in Path(main.directory).iterdir():
            if not entry.name.startswith("main.cf"):
                place.joinpath(entry.name).symlink_to(entry)
        copy = place / "main.cf"
        copy.write_bytes(main.text)
        _settle(copy)
        changes = changes or {}
        values = [f"{name}={value}" for name, value in changes.items() if value is not None]
        removed = [name for name, value in changes.items() if value is None]
        if values:
            run("postconf", "-c", str(place), "-e", *values)
            _settle(copy)
        if removed:
            run("postconf", "-c", str(place), "-X", *removed)
            _settle(copy)
        yield place


def master_edited(main: MainCf, master: MainCf, values: Mapping[str, str]) -> bytes:
    """Return the text of a master.cf with changed parameters of services.

    Args:
        main: the main.cf beside it.
        master: it.
        values: by NAME/TYPE/PARAMETER, without white space.

    Raises:
        HostError: postconf refuses.
    """
    with scratch(main) as place:
        copy = place / "master.cf"
        copy.unlink()
        copy.write_bytes(master.text)
        if values:
            run("postconf", "-c", str(place), "-P", *(f"{k}={v}" for k, v in values.items()))
        return copy.read_bytes()


def edited(main: MainCf, changes: Mapping[str, str | None]) -> bytes:
    """Return the text of a main.cf with changed parameters.

    Raises:
        HostError: postconf refuses.
    """
    with scratch(main, changes) as place:
        return (place / "main.cf").read_bytes()


def written(main: MainCf, names: Iterable[str]) -> dict[str, str]:
    """Return what a main.cf sets of these parameters, as it is written there.

    Raises:
        HostError: postconf refuses.
    """
    with scratch(main) as place:
        found = pairs(run("postconf", "-c", str(place), "-n", *names))
    return {name: found[name] for name in names if name in found}


def reserve(main: MainCf) -> None:
    """Write a copy beside main.cf: `replace` can return to it although the disk is full.

    Raises:
        HostError: it cannot be written (a full disk, for example).
    """
    spare = _spare(main.directory)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(spare, flags, 0o600)
        try:
            _fill(descriptor, spare, main)
        finally:
            os.close(descriptor)
    except OSError as error:
        _unlink(spare)
        raise HostError(f"{spare}: {error.strerror}") from error


def release(directory: str) -> None:
    """Remove the copy that `reserve` made, if there is one."""
    _unlink(_spare(directory))


def _spare(directory: str) -> Path:
    return Path(f"{directory}/main.cf.spare")


def replace(main: MainCf, text: bytes) -> MainCf:
    """Replace a main.cf by a new one, in one step; return that.

    Raises:
        RefusedError: it is no more what was read.
        NotPermittedError: it may not be written.
        HostError: it cannot be written (full or read-only file system, a mounted file).
    """
    path = Path(main.path)
    beside = Path(f"{main.path}.tmp")
    try:
        descriptor = _open(beside)
    except PermissionError as error:
        raise NotPermittedError(f"{path} may not be changed", "run it with sudo") from error
    except OSError as error:
        raise HostError(f"{beside}: {error.strerror}") from error
    try:
        spare = _spare(main.directory)
        if reserved := _is(spare, text):
            _settle(spare)
        else:
            _fill(descriptor, beside, msgspec.structs.replace(main, text=text))
        _same(main)
        (spare if reserved else beside).rename(path)
        if reserved:
            _unlink(beside)
    except PermissionError as error:
        _unlink(beside)
        hint = f"is it immutable? lsattr {path}"
        raise NotPermittedError(f"{path} may not be replaced", hint) from error
    except OSError as error:
        _unlink(beside)
        raise HostError(f"{path} cannot be replaced: {error.strerror}") from error
    except RefusedError:
        _unlink(beside)
        raise
    finally:
        os.close(descriptor)
    _sync(path.parent)
    return read(main.directory, path.name)


def _fill(descriptor: int, path: Path, main: MainCf) -> None:
    """Write a new file's text, with owner, mode and attributes of main.cf, to the disk."""
    text = main.text
    while text:
        text = text[os.write(descriptor, text) :]
    now = Path(main.path).lstat()
    os.fchown(descriptor, now.st_uid, now.st_gid)
    _attributes(Path(main.path), descriptor)
    os.fchmod(descriptor, stat.S_IMODE(now.st_mode))
    os.fsync(descriptor)
    _settle(path)


def _is(path: Path, text: bytes) -> bool:
    """Return whether a plain file has this text."""
    with suppress(OSError):
        return not path.is_symlink() and path.read_bytes() == text
    return False


def _same(main: MainCf) -> None:
    """Make sure that a main.cf is what was read."""
    if read(main.directory, Path(main.path).name).mark != main.mark:
        raise RefusedError(f"{main.path} was changed meanwhile by another program", "try again")


def _open(path: Path) -> int:
    """Open and lock main.cf.tmp as edit_file_open does (src/util/edit_file.c)."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        status = os.fstat(descriptor)
        with suppress(FileNotFoundError):
            if os.path.samestat(status, path.lstat()):
                if status.st_nlink == 1 and stat.S_IMODE(status.st_mode) == 0o600:
                    os.ftruncate(descriptor, 0)
                    return descriptor
                path.unlink()  # a crash left it
        os.close(descriptor)


def _attributes(path: Path, descriptor: int) -> None:
    """Copy extended attributes: access lists, security labels."""
    with suppress(OSError):  # the file system has none
        for name in os.listxattr(path, follow_symlinks=False):
            os.setxattr(descriptor, name, os.getxattr(path, name, follow_symlinks=False))


def _settle(path: Path) -> None:
    then = path.stat().st_mtime_ns - _OLD
    os.utime(path, ns=(then, then))


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
