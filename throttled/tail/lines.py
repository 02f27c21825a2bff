r"""Bytes of a log file to its lines and where each one begins. Pure.

A `Splitter` owns the line that is not complete yet, and nothing else; it works on whatever pieces
the file came in. Lines end with "\n" alone: a carriage return is part of the text. Each byte
becomes one character (latin-1), so that offsets are bytes and invalid UTF-8 is no error.

Limits: a line longer than `MAX_LINE` is cut there and the rest of it is discarded and counted, so
memory is bounded however long a line grows. NUL bytes at the start of a line are dropped: a
writer that was not opened for appending leaves such a hole after a truncation (logrotate's
copytruncate), and a crash leaves one in a file whose blocks were never written.
"""

from itertools import accumulate
from operator import add

#: Bytes kept of a line. Postfix cuts what it writes at 2000, the logger's header comes before it.
MAX_LINE = 8192


class Splitter:
    """Cuts a stream of bytes into lines.

    Args:
        offset: where in the file the first byte fed will come from.
    """

    def __init__(self, offset: int = 0) -> None:
        self.start = offset  # of the line that is not complete yet: where a restart must continue
        self.over_long = 0  # lines cut so far
        self._pending = ""
        self._discarded = 0  # bytes of the pending line after the first MAX_LINE

    @property
    def end(self) -> int:
        """Where the next byte to be fed stands in the file."""
        return self.start + len(self._pending) + self._discarded

    def feed(self, chunk: bytes) -> tuple[list[str], list[int]]:
        """Return the lines that are now complete, without their ends, and their offsets."""
        text = self._pending + chunk.decode("latin-1")
        lines = text.split("\n")
        lengths = list(map(len, lines))
        lengths[0] += self._discarded
        offsets = list(map(add, accumulate(lengths, initial=self.start), range(len(lines))))
        if "\0" in text:
            _fill_holes(lines, lengths, offsets)
        longest = max(lengths)
        self._pending = lines.pop()
        self.start = offsets.pop()
        self._discarded = lengths.pop() - len(self._pending)
        if longest > MAX_LINE:
            self._cut(lines, lengths)
        return lines, offsets

    def flush(self) -> tuple[list[str], list[int]]:
        """Return the last line of a file that ends without a newline, if there is one."""
        return self.feed(b"\n") if self._pending else ([], [])

    def _cut(self, lines: list[str], lengths: list[int]) -> None:
        for index, length in enumerate(lengths):
            if length > MAX_LINE:
                lines[index] = lines[index][:MAX_LINE]
                self.over_long += 1
        excess = len(self._pending) - MAX_LINE
        if excess > 0:
            self._pending = self._pending[:MAX_LINE]
            self._discarded += excess


def _fill_holes(lines: list[str], lengths: list[int], offsets: list[int]) -> None:
    """Drop the NULs that lines begin with; the offsets then name what follows them."""
    for index, line in enumerate(lines):
        if line.startswith("\0"):
            lines[index] = line.lstrip("\0")
            hole = len(line) - len(lines[index])
            lengths[index] -= hole
            offsets[index] += hole
