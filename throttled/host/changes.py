"""What `throttled postfix set` changed in one main.cf: a journal, so that it can be reverted.

One file for each instance in a directory of root's, replaced as a whole and synced before main.cf
is touched. A file and not the database: the command works where no daemon ever ran and where the
database is full, damaged or of a newer version; `purge --all` must not lose old values that are
still needed; and a process that is killed at any moment leaves either the old file or the new one.

Owns no state. Limits: `CHANGES` changes, the oldest go first.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from throttled.errors import HostError, NotPermittedError

CHANGES = 50

#: begun: main.cf may be the old or the new one; applied; restored: Postfix did not answer;
#: interrupted: the command was killed, and the old main.cf restored; undone; undo: itself one.
Outcome = Literal["begun", "applied", "restored", "interrupted", "undone", "undo"]


class Setting(Struct, frozen=True):
    """A parameter in main.cf, before and after; None = not set there."""

    name: str
    before: str | None
    after: str | None

    def backwards(self) -> "Setting":
        """Return what reverts it."""
        return Setting(self.name, self.after, self.before)


class Replacement(Struct, frozen=True):
    """Another file beside main.cf, before and after."""

    name: str  # master.cf
    before: bytes
    after: bytes

    def backwards(self) -> "Replacement":
        """Return what reverts it."""
        return Replacement(self.name, self.after, self.before)


class Change(Struct):
    """One change of a main.cf."""

    number: int
    time: float  # wall clock
    user: str
    outcome: Outcome
    settings: list[Setting]
    before: bytes  # the whole main.cf
    after: bytes
    answered: list[str] = []  # services that greeted clients before
    reverts: int = 0  # number of the change that this one takes back
    why: str = ""  # it was not applied
    more: list[Replacement] = []  # files that were replaced after main.cf
    command: str = "set"  # that made it


class Journal:
    """The changes of one instance, the oldest first.

    Args:
        place: the directory, made if need be.
        directory: the instance's configuration directory.
    """

    def __init__(self, place: Path, directory: str) -> None:
        self._path = place / f"{quote(directory, safe='')}.json"
        self.changes: list[Change] = []

    def load(self) -> "Journal":
        """Read it, as others may have written it.

        Raises:
            NotPermittedError: this user may not.
            HostError: it cannot be read, or is not root's.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return self
        except PermissionError as error:
            raise NotPermittedError(f"{self._path}: {error.strerror}", "run it as root") from error
        except OSError as error:
            raise HostError(f"{self._path}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
                raise HostError(f"{self._path} is not root's", "remove it")
            try:
                self.changes = msgspec.json.decode(file.read(), type=list[Change])
            except msgspec.MsgspecError as error:
                raise HostError(f"{self._path} is unreadable: {error}", "remove it") from error
        return self

    def add(self, change: Change) -> None:
        """Record a change, with the next number."""
        change.number = 1 + max((one.number for one in self.changes), default=0)
        self.changes = [*self.changes, change][-CHANGES:]
        self.save()

    def save(self) -> None:
        """Write it to the disk.

        Raises:
            HostError: it cannot be written.
        """
        beside = Path(f"{self._path}.tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                beside.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self.changes))
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(directory)
            os.close(directory)
        except OSError as error:
            raise HostError(f"{self._path}: {error.strerror}", "nothing was changed") from error

    def pending(self) -> list[Change]:
        """Return changes that were begun and neither finished nor reverted, the latest first."""
        return [one for one in reversed(self.changes) if one.outcome == "begun"]

    def latest(self, command: str) -> Change | None:
        """Return the latest active change of a command."""
        of = (one for one in reversed(self.changes) if one.command == command)
        return next((one for one in of if one.outcome == "applied"), None)


def journal(store: str, directory: str) -> Journal:
    """Return the journal of an instance, not yet loaded.

    Args:
        store: path of the database; the journal is beside it.
        directory: the instance.
    """
    return Journal(Path(store).parent / "postfix", directory)
