"""Which messages we had Postfix put on hold: a file for each, written before Postfix is answered.

Files and not the database: they are written where the database is full, damaged or locked, need no
lock between the daemon and the command that releases mail, and a process that is killed at any
moment leaves a message's file or none. Only mail that has one is ever released by us.

Owns a directory. Limits: `MOST` messages, `EACH` of one sender, which so leaves room for others.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct

MOST, EACH = 100_000, 10_000
#: Where there are so many, they are counted once in so many seconds: 0.1 s each time.
_AGAIN = 10.0


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

    def remove(self, held: Held) -> None:
        """Remove the record of a message."""
        with suppress(FileNotFoundError):
            self._path(held).unlink()

    def all(self) -> Iterator[Held]:
        """Yield what is recorded; what is no record is passed over."""
        for name in self._names():
            with suppress(OSError, msgspec.MsgspecError):
                yield msgspec.json.decode((self.place / name).read_bytes(), type=Held)

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


def _sender(held: Held) -> str:
    """Return a mark of who handed a message in: names are of any length."""
    name = (held.owner or held.subject).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(name, digest_size=8).hexdigest()
