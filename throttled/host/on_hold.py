"""Which messages we had Postfix put on hold: a file for each, written before Postfix is answered.

Files and not the database: they are written where the database is full, damaged or locked, need no
lock between the daemon and the command that releases mail, and a process that is killed at any
moment leaves a message's file or none. Only mail that has one is ever released by us.

No answer waits for the disk: the daemon has the directory written once a second (`sync`). What a
power failure leaves of a file may be its name alone, so that suffices to release the message.

Owns a directory, and one beside it with records that no message matched (`leave`). Limits: `MOST`
messages, `EACH` of one sender, which so leaves room for others; `_LEFT` that no message matched.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct

MOST, EACH = 100_000, 10_000
#: Seconds after which they are counted again where a cap is reached: 0.1 s each time.
_AGAIN = 10.0
#: Of a record without content: seconds until its deadline, and its rate, a message a second.
_HOLD = 3600.0
#: Records that no message matched, and for how many seconds they are reported.
_LEFT, _WEEK = 1000, 7 * 86400.0
_PARTS = 3  # of a record's name, see `_path`


class Held(Struct, frozen=True):
    """A message that we had put on hold."""

    instance: str  # configuration directory
    queue_id: str
    subject: str  # whose it is: account:alice, 192.0.2.7
    time: float  # wall clock
    deadline: float  # wall clock; then it is released
    messages: int  # the rate at which
    per: float  # seconds
    #: Who handed it in, account or client; "": `subject`. That may be the sender's domain, which
    #: cleanup(8) may change.
    owner: str = ""
    mark: str = ""  # instead of subject and owner, where only the record's name is left


class OnHold:
    """The messages on hold."""

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Touch nothing yet.

        Args:
            store: path of the database; the directory is beside it.
            clock: seconds that only ever grow.
        """
        self._clock = clock
        self.place = Path(store).parent / "on-hold"
        self._beside = self.place.with_name("on-hold-left")
        self._written = False  # since the last `sync`
        #: By sender: those that this process added, and those of before. None: not counted yet.
        self._counts: Counter[str] | None = None
        self._count = 0  # all of them
        self._counted = 0.0  # when

    def add(self, held: Held) -> None:
        """Record a message, before Postfix puts it on hold.

        Raises:
            OSError: it cannot be, or there are too many.
        """
        now, sender = self._clock(), _sender(held)
        counts = self._counts
        full = counts is None or self._count >= MOST or counts[sender] >= EACH
        if counts is None or (full and now - self._counted >= _AGAIN):
            counts = Counter(name.rpartition(",")[2] for name in self._names())
            self._counts, self._count, self._counted = counts, counts.total(), now
        if self._count >= MOST:
            raise OSError(f"{MOST} messages are on hold already")
        if counts[sender] >= EACH:
            raise OSError(f"{EACH} messages of one sender are on hold already")
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(held)
        beside = path.with_name(f".{path.name}")
        try:
            beside.write_bytes(msgspec.json.encode(held))
            beside.rename(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        counts[sender] += 1
        self._count += 1
        self._written = True

    def sync(self) -> None:
        """Have what was added since the last call written to the disk. Blocks.

        Raises:
            OSError: it cannot be.
        """
        if not self._written:
            return
        self._written = False
        opened = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def remove(self, held: Held) -> None:
        """Remove the record of a message."""
        self._path(held).unlink(missing_ok=True)

    def leave(self, held: Held) -> None:
        """Report a message from now on that stays on hold: it is not as recorded."""
        path = self._path(held)
        self._beside.mkdir(mode=0o700, exist_ok=True)
        if sum(1 for _ in self._beside.iterdir()) >= _LEFT:
            path.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            path.rename(self._beside / path.name)
            os.utime(self._beside / path.name)

    def left(self, wall: float) -> list[str]:
        """Return the queue ids of messages that stay on hold; old ones are removed.

        Args:
            wall: now, wall clock.
        """
        found = []
        with suppress(OSError):
            for path in list(self._beside.iterdir()):
                if path.stat().st_mtime < wall - _WEEK:
                    path.unlink(missing_ok=True)
                else:
                    found += _parts(path.name)[1:2]
        return found

    def dismiss(self, ids: Collection[str]) -> None:
        """Report messages no more, of which an operator has decided."""
        with suppress(OSError):
            for path in list(self._beside.iterdir()):
                if any(queue_id in ids for queue_id in _parts(path.name)[1:2]):
                    path.unlink(missing_ok=True)

    def present(self, held: Held) -> bool:
        """Return whether a message is still recorded."""
        return self._path(held).exists()

    def all(self) -> Iterator[Held]:
        """Yield what is recorded; what is no record is passed over."""
        for name in self._names():
            with suppress(OSError):
                path = self.place / name
                try:
                    yield msgspec.json.decode(path.read_bytes(), type=Held)
                except msgspec.MsgspecError:
                    if (held := _named(name, path.stat().st_mtime)) is not None:
                        yield held

    def count(self) -> int:
        """Return how many messages are recorded."""
        return sum(1 for _ in self._names())

    def _names(self) -> Iterator[str]:
        with suppress(OSError), os.scandir(self.place) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name

    def _path(self, held: Held) -> Path:
        return self.place / f"{quote(held.instance, safe='')},{held.queue_id},{_sender(held)}"


def matches(held: Held, names: Iterable[str]) -> bool:
    """Return whether who handed a message in, account or client, is who the record says."""
    if held.mark:
        return held.mark in map(_mark, names)
    return (held.owner or held.subject) in names


def _sender(held: Held) -> str:
    return held.mark or _mark(held.owner or held.subject)


def _mark(name: str) -> str:
    """Return a mark of who handed a message in: names are of any length."""
    text = name.encode("utf-8", "backslashreplace")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _parts(name: str) -> list[str]:
    """Return instance, queue id and mark out of a record's name; nothing of another name."""
    parts = name.split(",")
    return parts if len(parts) == _PARTS else []


def _named(name: str, time: float) -> Held | None:
    """Return what the name of a record says; None: it is none.

    Args:
        name: of the file.
        time: when it was made.
    """
    parts = _parts(name)
    if not parts:
        return None
    instance, queue_id, mark = parts
    return Held(unquote(instance), queue_id, "", time, time + _HOLD, 60, 60.0, "", mark)
