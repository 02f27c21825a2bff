"""Following one log file by its path, whatever happens to the file behind it.

What is read, and in which order:

- **Rename rotation** (logrotate's default, `postfix logrotate`): the renamed file is read to its
  end, then the new one from its start. The writer continues writing to the renamed file until it
  is signalled to reopen, and of several writers (Postfix instances) one may be later: the old
  file stays open and followed until the new one has data and the old one was quiet for `LINGER`
  seconds, or until it is the oldest of more than `MAX_FILES`. Several rotations at once are
  followed in order.
- **Truncation** (`: > log`, logrotate's copytruncate): reading continues at 0. Lines that were not
  read yet are read from the copy, where there is one. Lost for good is what was written after the
  copy and was not read before the truncation: copytruncate loses lines. Where only the end was
  cut off, nothing is read twice: reading continues at the new end.
- **Not there**, vanished, moved away with its directory, a link that points elsewhere: waited for
  without polling, and what appears is read from its start; a file that comes back is read on.
- **Restart**: `Position` says which generation was read how far; it is looked for by inode and
  fingerprint among the files of the directory, compressed ones too, and then all later ones are
  read. If it is gone, `gaps` counts it and the log is read from its start.
- A line is given out when its end was written; of an old generation the last one also without.
- **A failure** (no descriptor or watch left, EIO, ESTALE): tried again by each `read`, at first
  after a second, then less often; `State.error` says so until it works. What else is there is
  read meanwhile. A generation that fails is reopened; an old one that fails for `PATIENCE`
  seconds, or while more than `MAX_FILES` are open, is given up, which `gaps` counts.

Owns the descriptors of the generations and the inotify instance.

Limits: rotated files are looked for in the directory of the log; mounting over a directory raises
no event; a rewrite that leaves the first 256 bytes and does not shrink the file counts as growth;
of a log that was not there at start, a first file that is rotated away before it was ever read.
Without a watch (none left) the caller has to call `read` now and then, as after any failure.
The descriptor of a deleted file is given back at the first `read` after `LINGER`, not on a timer.
"""

from contextlib import suppress
from time import monotonic, time

from msgspec.structs import replace

from throttled.errors import SourceError
from throttled.linux.failures import unreadable
from throttled.tail.backoff import Backoff
from throttled.tail.finding import between, locate, locate_all, open_log
from throttled.tail.generation import Packed, Plain, RewrittenError
from throttled.tail.position import HEAD, Batch, Position, State, covered, fits, recognisable
from throttled.tail.watch import Watch

__all__ = ["LINGER", "MAX_FILES", "Batch", "FileTail", "Position"]

LINGER = 300.0  # seconds that a renamed file must have been quiet
MAX_FILES = 4  # generations that stay open; more only while they are not read to their end
PATIENCE = 3600.0  # seconds that an old generation is tried which cannot be read


class FileTail:
    """The lines of one log, as they are written.

    Args:
        path: absolute; need not exist.
        position: where to continue, from the latest batch processed; None begins at the end.
        from_start: with no position, begin at the start.

    Raises:
        SourceError: the kernel allows no more inotify instances. Everything else that is wrong is
            raised by `read`, and tried again.
    """

    def __init__(self, path: str, position: Position | None, *, from_start: bool = False) -> None:
        self.path = path
        self._resume = position
        self._skip_present = position is None and not from_start
        self._files: list[Plain | Packed] = []  # oldest first; the last is the log, once it exists
        self._place: Position | None = None  # where the latest batch ended; None: see `position`
        self._stale = True  # the path has to be looked at
        self._retry = Backoff()  # of looking at it
        self._exists = False
        self._lines = self._over_long = self._truncations = self._rotations = self._gaps = 0
        self._last_line = 0.0
        self._watch = Watch(path)
        with suppress(SourceError, OSError):  # the first read tries again, and raises
            self._check_path()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `read` may have something.

        What was there before the watch raises no event: read until a batch is `done` first.
        """
        return self._watch.fileno()

    def read(self, limit: int = 262_144) -> Batch | None:
        """Return the next lines, from at most `limit` bytes; None: nothing new. Never blocks.

        A batch can be without lines; what counts then is its `done`.

        Raises:
            SourceError: a try that was due failed, and nothing else is new. Later calls try again.
        """
        at = monotonic()
        self._place = None
        failure = self._refresh(at)
        for file in tuple(self._files):
            if not file.retry.due(at):
                continue
            try:
                batch = self._read(file, limit)
            except OSError as error:
                failure = self._failed(file, error, at)
                continue
            file.retry.succeeded()
            if batch:
                return batch  # what failed is in `state`
        if failure:
            raise failure
        return None

    def _refresh(self, at: float) -> SourceError | None:
        """Check the path if that is due; return its error; files that are open are still read."""
        try:
            if self._watch.changed() or (self._stale and self._retry.due(at)):
                self._check_path()
                self._retry.succeeded()
        except (SourceError, OSError) as error:
            failure = unreadable(self.path, error) if isinstance(error, OSError) else error
            self._retry.failed(at, failure.message)
            return failure
        return None

    def _failed(self, file: Plain | Packed, error: OSError, at: float) -> SourceError:
        """Have a generation that cannot be read tried again later, or give it up."""
        failure = unreadable(self.path, error)
        file.retry.failed(at, failure.message)
        too_many = len(self._files) > MAX_FILES
        if file is not self._files[-1] and (too_many or at - file.retry.since > PATIENCE):
            file.damaged = True
            self._drop(file)
            return failure
        with suppress(SourceError, OSError):
            again = locate(file.position(self.path))  # the handle may be stale: NFS
            if again is not None:
                again.retry = file.retry
                self._files[self._files.index(file)] = again
                self._watch.unwatch(file.watch)
                file.close()
                self._stale = True  # it has no watch yet
        return failure

    @property
    def position(self) -> Position | None:
        """Where to continue after what was read; None as long as the log could not be looked for.

        Inode 0 stands for a log that was not there yet: it is then read from its start.
        """
        if not self._files:
            return self._resume
        return self._place or self._here()

    def state(self) -> State:
        """Return what `status` says of this log."""
        return State(
            path=self.path,
            exists=self._exists,
            lag=sum(file.lag() for file in self._files),
            lines=self._lines,
            over_long=self._over_long + sum(file.over_long for file in self._files),
            truncations=self._truncations,
            rotations=self._rotations,
            gaps=self._gaps,
            last_line=self._last_line,
            error=self._retry.error
            or next((file.retry.error for file in self._files if file.retry.error), ""),
        )

    def close(self) -> None:
        """Give all descriptors back."""
        for file in self._files:
            file.close()
        self._files = []
        self._watch.close()

    def _read(self, file: Plain | Packed, limit: int) -> Batch | None:
        """Return what is new in one generation; drop it when nothing can come any more."""
        is_log = file is self._files[-1]
        try:
            lines, offsets, more = file.read(limit)
        except RewrittenError:
            return self._rewritten(file, is_log=is_log)
        if not lines and not more and not is_log and self._settled(file):
            lines, offsets = file.flush()
            self._drop(file)
        if not lines and not more:
            return None
        return self._batch(file, lines, offsets, done=is_log and not more)

    def _batch(
        self, file: Plain | Packed, lines: list[str], offsets: list[int], *, done: bool
    ) -> Batch:
        if lines:
            self._lines += len(lines)
            self._last_line = time()
        here = self._place = self._here()
        return Batch(self.path, file.device, file.inode, file.mark, lines, offsets, here, done)

    def _here(self) -> Position:
        *older, log = (file.position(self.path) for file in self._files)
        return replace(log, older=tuple(older)) if older else log

    def _rewritten(self, file: Plain | Packed, *, is_log: bool) -> Batch:
        """Go on after a truncation; a rotated file that is rewritten (shredded) is no log."""
        if not is_log:
            self._drop(file)
        elif isinstance(file, Plain):
            before = file.position(self.path)
            self._truncations += file.restart()
            if file.end == 0 and (copy := locate(before)):
                self._files.insert(-1, copy)
        return self._batch(file, [], [], done=False)

    def _settled(self, file: Plain | Packed) -> bool:
        """Return whether an old generation that is read to its end may be given up."""
        if len(self._files) > MAX_FILES:
            return True
        if file.finished:  # behind one that is kept it would be looked for again after a restart
            return file is self._files[0]
        return self._files[-1].end > 0 and monotonic() - file.heard > LINGER

    def _drop(self, file: Plain | Packed) -> None:
        self._files.remove(file)
        self._gaps += file.damaged
        self._over_long += file.over_long
        self._watch.unwatch(file.watch)
        file.close()

    def _check_path(self) -> None:
        """Find out which file the path means now, and what was written before that one."""
        self._stale = True
        unwatched = None
        try:
            self._watch.resolve()
        except SourceError as error:  # no watch is left: it can be read nevertheless
            unwatched = error
        if self._resume:
            self._find(self._resume)
        log = self._log()
        try:
            self._switch(log)
        except BaseException:
            if log is not None and log not in self._files:
                log.close()
            raise
        for file in self._files:
            if isinstance(file, Plain) and file.watch < 0:
                try:
                    file.watch = self._watch.follow(file.fd)
                except SourceError as error:
                    unwatched = error
        if unwatched:
            raise unwatched
        self._stale = False

    def _find(self, resume: Position) -> None:
        """Open the generations that the position given at first means."""
        # What was empty still has an inode only, which may be another file's by now; it is
        # found as one that came after the others.
        positions = (*resume.older, resume)
        known = [position for position in positions if recognisable(position.fingerprint)]
        found = locate_all(known or positions)
        self._files = [file for file in found if file]
        if self._files:
            self._gaps += found.count(None)
            self._resume = None

    def _switch(self, log: Plain | None) -> None:
        """Take the file that is at the path now, if one is."""
        self._exists = log is not None
        if log is None:
            self._skip_present = False
            if not self._files and not self._resume:
                self._resume = Position(self.path, 0, 0, 0, b"")  # whatever comes is new
        elif not self._files:
            self._begin(log)
        elif log is not self._files[-1]:
            self._succeed(log)
        if log:
            log.finished = False  # whatever it was before

    def _begin(self, log: Plain) -> None:
        """Follow a log of which nothing is known, or not found any more."""
        self._gaps += self._resume is not None and self._resume.inode != 0
        self._resume = None
        if self._skip_present:
            log.seek_end()
        self._files = [log]

    def _log(self) -> Plain | None:
        """Return the file at the path, newly opened unless it is open already; None: not there."""
        log = open_log(self.path)
        for file in self._files:
            if log and isinstance(file, Plain) and file.same(log):
                log.close()
                return file
        return log

    def _succeed(self, log: Plain) -> None:
        """Put another file than before at the end of the generations."""
        if log in self._files:  # moved back
            self._files.remove(log)
        else:
            last = self._files[-1].position(self.path)
            later, missing = between(last, log)
            self._files += later
            self._gaps += missing
            self._rotations += 1
            same = covered(last.fingerprint) == HEAD and fits(last.fingerprint, log.head)
            if same or log.continues(last):
                log.seek(last.offset)  # the same log, copied: sed -i, an editor
        self._files.append(log)
