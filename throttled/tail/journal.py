"""Following Postfix in systemd's journal.

Entries come out as lines of a log file, `2026-08-22T10:00:01.515840+00:00 host tag[pid]: text`, so
that one parser reads both. Read are entries of the facility `mail` that root or the user postfix
wrote: who wrote an entry is recorded by the kernel (`_UID`), so a line that another user forges is
not read. journald's messages that it suppressed lines are read too.

`journal:NAME` is what a container of that name wrote, by docker's or podman's journald driver: the
entries with that CONTAINER_NAME that root wrote (dockerd, conmon). Each is a line of a log, in
whatever form the container's Postfix or syslog daemon writes it, and has no facility. It comes out
behind journald's time, as `docker logs --timestamps` writes it.

A position is the cursor of an entry, kept in `Position.fingerprint`; the offset of a line is the
microsecond at which journald received it. Rotation, vacuuming and a restarted journald are
libsystemd's business; if the entry of a position is gone, `gaps` counts it and reading continues
with the first one after it.

journald writes through a memory map, which raises no event; it makes one up to 250 ms later, and
readers that wait for that get it up to 250 ms after. So a timer checks every `INTERVAL`, which
costs a hundredth of a core; after `QUIET` seconds without a line every `IDLE_INTERVAL`.

Limits: Postfix's defaults of `syslog_facility` and `mail_owner`; how much is not read yet (`lag`)
is not known. Owns a handle of libsystemd, a timer and the descriptor that joins them.
"""

import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pwd import getpwnam
from time import gmtime, monotonic, strftime, time

from throttled.errors import SourceError
from throttled.linux.failures import unreadable
from throttled.linux.timer import Timer
from throttled.log_paths import JOURNAL, container_of
from throttled.tail.lines import MAX_LINE
from throttled.tail.position import Batch, Position, State
from throttled.tail.sdjournal import Reader

INTERVAL = 0.01  # seconds between checks
IDLE_INTERVAL = 0.1
QUIET = 60.0
MAX_LINES = 512  # of a batch: a few milliseconds

_MAIL = b"SYSLOG_FACILITY=2"  # syslog(3): LOG_MAIL
_SUPPRESSED = (
    b"_TRANSPORT=driver",  # journald itself
    b"MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e",  # SD_MESSAGE_JOURNAL_DROPPED
)


class JournalTail:
    """What Postfix logs to the journal, as `FileTail` gives it from a file.

    Args:
        position: where to continue; None begins with what comes.
        from_start: with no position, begin with the oldest entry.
        path: `JOURNAL`, or that of a container, see `container_journal`.

    Raises:
        SourceError: there is no journal, or it may not be read.
    """

    def __init__(
        self, position: Position | None, *, from_start: bool = False, path: str = JOURNAL
    ) -> None:
        self.path = path
        self.position = position
        self._lines = self._over_long = self._gaps = 0
        self._last_line = 0.0
        self._heard = monotonic()
        self._reader = _open(path)
        self._line = _form(path)
        try:
            self._timer = Timer()
        except OSError as error:
            raise unreadable("the journal", error) from error
        self._timer.every(INTERVAL)
        self._wake = select.epoll()
        self._wake.register(self._timer.fileno(), select.EPOLLIN)
        self._wake.register(self._reader.fileno(), select.EPOLLIN)
        try:
            self._begin(position, from_start=from_start)
        except SourceError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that is readable when it is time to `read`."""
        return self._wake.fileno()

    def read(self, limit: int = 262_144) -> Batch | None:
        """Return the next lines, at most `limit` bytes and `MAX_LINES`; None: nothing new.

        Raises:
            SourceError: the journal cannot be read. Later calls try again.
        """
        for fd, _ in self._wake.poll(0):
            if fd == self._timer.fileno():
                self._timer.clear()
            else:
                self._reader.process()
        lines: list[str] = []
        times: list[int] = []
        done = False
        while limit > 0 and len(lines) < MAX_LINES and not done:
            done = not self._next(lines)
            if not done:
                text, usec = self._line(self._reader)
                self._over_long += len(text) > MAX_LINE
                lines.append(text[:MAX_LINE])
                times.append(usec)
                limit -= len(text)
        if not lines:
            if monotonic() - self._heard > QUIET:
                self._timer.every(IDLE_INTERVAL)
            return None
        self._timer.every(INTERVAL)
        self._heard = monotonic()
        self._lines += len(lines)
        self._last_line = time()
        self.position = _here(self._reader, self.path)
        return Batch(self.path, 0, 0, b"", lines, times, self.position, done)

    def _next(self, lines: list[str]) -> bool:
        """Go to the next entry; a failure has to wait until the lines so far are given out."""
        try:
            return self._reader.next()
        except SourceError:
            if not lines:
                raise
            return False

    def _begin(self, position: Position | None, *, from_start: bool) -> None:
        if position:
            self._gaps += not _seek(self._reader, position)
        elif not from_start and self._reader.seek_tail():
            self.position = _here(self._reader, self.path)

    def state(self) -> State:
        """Return what `status` says of the journal."""
        return State(
            path=self.path,
            exists=True,
            lag=0,
            lines=self._lines,
            over_long=self._over_long,
            truncations=0,
            rotations=0,
            gaps=self._gaps,
            last_line=self._last_line,
        )

    def close(self) -> None:
        """Give handle and descriptors back."""
        self._wake.close()
        self._timer.close()
        self._reader.close()


def before(position: Position, limit: int) -> Iterator[Batch]:
    """Yield the lines of the last `limit` bytes up to a position: see `behind.before`."""
    texts: deque[tuple[str, int]] = deque()
    line = _form(position.path)
    with closing(_open(position.path)) as reader:
        found = _seek(reader, position) or reader.previous()
        while found:
            text, usec = line(reader)
            limit -= len(text)
            if limit < 0:
                break
            texts.appendleft((text[:MAX_LINE], usec))
            found = reader.previous()
    while texts:
        some = [texts.popleft() for _ in range(min(len(texts), MAX_LINES))]
        lines, times = map(list, zip(*some, strict=True))
        yield Batch(position.path, 0, 0, b"", lines, times, position, done=False)


def backwards(position: Position, *, inclusive: bool) -> Iterator[tuple[list[str], Position]]:
    """Yield what is before a position, the latest lines first, in chunks whose lines are in order.

    Args:
        position: where to begin.
        inclusive: with the entry of the position.

    Yields:
        Lines, and the position of the first of them.

    Raises:
        SourceError: the journal cannot be read.
    """
    line = _form(position.path)
    with closing(_open(position.path)) as reader:
        found = _seek(reader, position)
        if not (found and inclusive):
            found = reader.previous()
        while found:
            lines: deque[str] = deque()
            while found and len(lines) < MAX_LINES:
                lines.appendleft(line(reader)[0][:MAX_LINE])
                here = _here(reader, position.path)
                found = reader.previous()
            yield list(lines), here


def lines_at(path: str, times: Sequence[int]) -> list[str | None]:
    """Return the lines that journald received at these microseconds; None for one that is gone."""
    line = _form(path)
    with closing(_open(path)) as reader:
        return [line(reader)[0][:MAX_LINE] if reader.seek_time(usec) else None for usec in times]


def _open(path: str) -> Reader:
    if container := container_of(path):
        # Its name is the operator's choice; that dockerd or conmon wrote it, the kernel says.
        return Reader([[b"CONTAINER_NAME=" + container.encode(), b"_UID=0"], _SUPPRESSED], MAX_LINE)
    users = {0}
    with suppress(KeyError):  # no Postfix is installed: only root is believed
        users.add(getpwnam("postfix").pw_uid)
    return Reader([[_MAIL, *(b"_UID=%d" % user for user in sorted(users))], _SUPPRESSED], MAX_LINE)


def _seek(reader: Reader, position: Position) -> bool:
    """Go to the entry of a position; False: it is gone, and this is before the next one."""
    cursor = position.fingerprint
    reader.seek_cursor(cursor)
    if reader.next() and reader.at_cursor(cursor):
        return True
    reader.seek_cursor(cursor)
    return False


def _here(reader: Reader, path: str) -> Position:
    return Position(path, 0, 0, reader.time(), reader.cursor())


def _form(path: str) -> Callable[[Reader], tuple[str, int]]:
    """Return what makes a line of an entry, and its time in microseconds."""
    return _contained if container_of(path) else _line


def _contained(reader: Reader) -> tuple[str, int]:
    """Return what a container wrote, behind the time; journald's own entries as `_line` does."""
    if not reader.field(b"CONTAINER_NAME"):
        return _line(reader)
    usec = reader.time()
    # A terminal (docker run -t) ends lines with a carriage return.
    text = reader.field(b"MESSAGE").rstrip(b"\r\n").replace(b"\n", b"?")
    return (_stamp(usec) + b" " + text).decode("latin-1"), usec


def _line(reader: Reader) -> tuple[str, int]:
    """Return an entry as a line of a log file, and its time in microseconds."""
    usec = reader.time()
    header = b"%s %s %s[%s]: " % (
        _stamp(usec),
        reader.field(b"_HOSTNAME"),
        reader.field(b"SYSLOG_IDENTIFIER"),
        reader.field(b"SYSLOG_PID") or reader.field(b"_PID"),
    )
    # Postfix never writes a newline; an entry that has one must not become two lines.
    text = reader.field(b"MESSAGE").replace(b"\n", b"?")
    return (header + text).decode("latin-1"), usec


def _stamp(usec: int) -> bytes:
    return b"%s.%06d+00:00" % (_second(usec // 1_000_000), usec % 1_000_000)


@lru_cache(maxsize=2)
def _second(seconds: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)).encode()
