"""Whole logs a piece at a time: plain, .gz, .xz, .bz2 or standard input.

The first bytes of a file decide its format, not its name. Memory does not grow with the log.
Owns nothing; a file is closed when its reader is exhausted or dropped.
"""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from throttled.errors import SourceError
from throttled.linux.failures import unreadable
from throttled.tail.lines import Splitter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE: Final = 65_536  # bytes asked for at a time; lines of more would not stay in a cache

#: What reading a file raises, and what a damaged or unknown archive does.
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, SourceError)

_DAMAGED = "lines up to the damage were read; test it with gzip -t, xz -t or bzip2 -t"


class Counted(io.FileIO):
    """A file that knows how much was read of it, also where there is no position: a pipe."""

    consumed = 0

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        """Read as any file does, and count."""
        count = super().readinto(buffer)
        self.consumed += count or 0
        return count


def inflate(raw: io.FileIO) -> io.BufferedIOBase:
    """Return what a file holds, uncompressed; `read1` on it gives a piece at a time.

    Raises:
        SourceError: a compression that Python does not know.
    """
    stream = io.BufferedReader(raw, PIECE)
    magic = stream.peek(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(stream)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        stream.detach()  # the file stays the caller's
        raise SourceError(f"{raw.name} is compressed with zstd", "use a pipe: zstd -dc FILE | … -")
    return stream


def read_log(path: str) -> Iterator[tuple[list[str], int]]:
    """Yield the lines of a log in batches, each with the bytes consumed of the file so far.

    Args:
        path: a file, compressed or not; "-" is standard input.

    Raises:
        SourceError: it cannot be read, or is damaged; good lines before that were yielded.
    """
    splitter = Splitter()
    consumed = 0
    for piece, consumed in pieces(path):
        yield splitter.feed(piece)[0], consumed
    yield splitter.flush()[0], consumed


def pieces(path: str) -> Iterator[tuple[bytes, int]]:
    """Yield what a log holds, uncompressed, as `read_log` does its lines.

    Raises:
        SourceError: as there.
    """
    try:
        with Counted(sys.stdin.fileno() if path == "-" else path, closefd=path != "-") as raw:
            stream = inflate(raw)
            while piece := stream.read1(PIECE):
                yield piece, raw.consumed
    except SourceError:
        raise
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, error) from error
        raise SourceError(f"{path} is damaged: {error}", _DAMAGED) from error
