"""One generation of a log, open for reading: a file, or one that was compressed meanwhile.

Each owns a descriptor, which outlives the file's name, and the line that is not complete yet.
"""

import os
from contextlib import suppress
from io import BufferedIOBase
from time import monotonic

from throttled.tail.archive import UNREADABLE, Counted, inflate
from throttled.tail.backoff import Backoff
from throttled.tail.lines import MAX_LINE, Splitter
from throttled.tail.position import HEAD, Position, covered, fingerprint, fits, recognisable

#: Complete lines, their offsets, and whether there is more to read at once.
Read = tuple[list[str], list[int], bool]


class RewrittenError(Exception):
    """The file does not hold any more what was read from it: truncated, or rewritten."""


class Generation:
    """What both kinds have: an identity, and where reading stands.

    Args:
        device: with `inode`, which file this is, or was before it was compressed.
        inode: see `device`.
        mark: its fingerprint.
        offset: where reading continues, the start of a line.
    """

    def __init__(self, device: int, inode: int, mark: bytes, offset: int) -> None:
        self.device = device
        self.inode = inode
        self.watch = -1  # descriptor of the inotify watch on it
        self.finished = False  # no one can write to it any more
        self.damaged = False  # what comes after here cannot be read
        self.heard = monotonic()  # of data, last
        self.retry = Backoff()  # after reads that failed
        self.mark = mark
        self._splitter = Splitter(offset)
        self._before = b""  # what stands before the line that is not complete yet

    @property
    def end(self) -> int:
        """Where reading stands, bytes."""
        return self._splitter.end

    @property
    def over_long(self) -> int:
        """Lines cut."""
        return self._splitter.over_long

    def flush(self) -> tuple[list[str], list[int]]:
        """Return the last line, if it never got its end."""
        return self._splitter.flush()

    def position(self, path: str) -> Position:
        """Return where to continue."""
        place = self.device, self.inode, self._splitter.start, self.mark
        return Position(path, *place, before=self._before and fingerprint(self._before))


class Plain(Generation):
    """A file as the writer writes it, or wrote it before it was renamed.

    Args:
        fd: open for reading; owned from here on.
        final: no one writes to it: a copy.

    Raises:
        OSError: it cannot be read; the descriptor is the caller's then.
    """

    def __init__(self, fd: int, *, final: bool = False) -> None:
        st = os.fstat(fd)
        self.fd = fd
        self.head = os.pread(fd, HEAD, 0)
        super().__init__(st.st_dev, st.st_ino, fingerprint(self.head), 0)
        self.finished = final

    def same(self, other: "Plain") -> bool:
        """Return whether both are the same file."""
        return (self.device, self.inode) == (other.device, other.inode)

    def seek(self, offset: int) -> None:
        """Go on reading at the start of a line; at the end where the file is shorter."""
        over_long = self.over_long
        self._splitter = Splitter(min(offset, os.fstat(self.fd).st_size))
        self._splitter.over_long = over_long
        self._before = self._behind()

    def seek_end(self) -> None:
        """Go on reading behind the last complete line."""
        self.seek(os.fstat(self.fd).st_size)
        back = max(0, self.end - MAX_LINE)
        self.seek(back + os.pread(self.fd, self.end - back, back).rfind(b"\n") + 1)

    def read(self, limit: int) -> Read:
        """Return what was written since, at most `limit` bytes of it.

        Raises:
            RewrittenError: the head differs, or the file is shorter than what was read.
        """
        end = self.end
        chunk = os.pread(self.fd, limit, end)
        # After the data: if the head still is the same, then the data was of the same file.
        if not self._recognised() or (not chunk and os.fstat(self.fd).st_size < end):
            raise RewrittenError
        if not chunk:
            return [], [], False
        self.heard = monotonic()
        lines, offsets = self._splitter.feed(chunk)
        if lines:
            split = self._splitter.start - end
            self._before = chunk[split - HEAD : split] if split >= HEAD else self._behind()
        return lines, offsets, len(chunk) == limit

    def restart(self) -> bool:
        """Go on after `RewrittenError`: at 0, or where reading stands if all before it is there.

        Returns:
            Whether it was truncated or rewritten; False: its first bytes were overwritten.
        """
        if self._recognised():
            self.seek(self.end)
        elif recognisable(fingerprint(self._before)) and self._behind() == self._before:
            self.head = os.pread(self.fd, HEAD, 0)
            self.mark = fingerprint(self.head)
            return False
        else:
            self.head, self.mark = b"", fingerprint(b"")  # what it was is the copy's now
            self._recognised()
            self.seek(0)
        return True

    def continues(self, position: Position) -> bool:
        """Return whether up to a position the file holds what another one held."""
        length = covered(position.before)
        if not recognisable(position.before):
            return False
        return fits(position.before, os.pread(self.fd, length, position.offset - length))

    def _behind(self) -> bytes:
        """Return the bytes before the line that is not complete yet."""
        start = self._splitter.start
        return os.pread(self.fd, min(HEAD, start), max(0, start - HEAD))

    def position(self, path: str) -> Position:
        """Return where to continue; with a fingerprint as long as the file allows by now."""
        if len(self.head) < HEAD:
            with suppress(OSError):  # reported by `read`
                self._recognised()
        return super().position(path)

    def _recognised(self) -> bool:
        """Return whether the file begins as before; learn its head as it grows."""
        head = os.pread(self.fd, HEAD, 0)
        if head != self.head:
            if not head.startswith(self.head):
                return False
            self.head = head
            self.mark = fingerprint(head)
        return True

    def lag(self) -> int:
        """Return the bytes not read yet; 0 where the file cannot be asked."""
        try:
            return max(0, os.fstat(self.fd).st_size - self.end)
        except OSError:  # a stale handle of NFS; reported by `read`
            return 0

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class Packed(Generation):
    """A generation that was compressed before it was read to its end.

    Args:
        fd: of the compressed file, open for reading; owned from here on.
        position: which generation that is, and where to continue; what comes before is inflated and
            thrown away, a piece with every `read`.
    """

    def __init__(self, fd: int, position: Position) -> None:
        super().__init__(position.device, position.inode, position.fingerprint, position.offset)
        self._skip = position.offset
        self._raw = Counted(fd)
        self._stream: BufferedIOBase | None = None

    def read(self, limit: int) -> Read:
        """Return the next lines; there is more until the end is reached or the file is damaged."""
        piece = b""
        try:
            self._stream = self._stream or inflate(self._raw)
            piece = self._stream.read1(limit)
        except UNREADABLE:
            self.damaged = True
        self.finished = not piece
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        lines, offsets = self._splitter.feed(piece[skipped:])
        return lines, offsets, not self.finished

    def lag(self) -> int:
        """Return 0: what an archive holds is known at its end only."""
        return 0

    def close(self) -> None:
        """Give the descriptor back."""
        self._raw.close()
