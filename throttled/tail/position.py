"""The position in a log, and what was read: the types of this package.

A path is no identity: files are renamed, truncated, compressed, and inode numbers are used again.
A `Position` therefore names the inode and carries a fingerprint of the file's first bytes.

Owns no state.
"""

from hashlib import blake2b

from msgspec import Struct

#: Maximum number of bytes that a fingerprint covers: two or three log lines, with their times.
HEAD = 256
_COUNT = 2  # bytes of the count in front of the hash
_RECOGNISABLE = 32  # a shorter head, less than a time and a host, could be any generation's


class Position(Struct, frozen=True):
    """Where to continue reading the log at `path`; kept by the store across restarts."""

    path: str  # as configured
    device: int
    inode: int
    offset: int  # bytes, always the start of a line
    fingerprint: bytes  # see `fingerprint`
    #: Earlier generations (renamed files) that may still grow or are not read to their end.
    older: tuple["Position", ...] = ()
    #: Fingerprint of the (at most `HEAD`) bytes before the offset: where the file's first bytes
    #: were overwritten in place, these tell that it is the same; b"": not known.
    before: bytes = b""


class Batch(Struct):
    """Lines of one generation of a log, in the order of the file."""

    path: str  # as configured
    device: int
    inode: int
    mark: bytes  # fingerprint of this generation; b"" of the journal
    lines: list[str]
    offsets: list[int]  # of each line in the (uncompressed) file
    position: Position  # where to continue once these lines are processed
    done: bool  # nothing more to read just now; otherwise read again without waiting


class State(Struct, frozen=True):
    """What `status` says of a log."""

    path: str
    exists: bool
    lag: int  # bytes logged and not read yet; compressed files are not counted
    lines: int  # read since start, as all counts here
    over_long: int  # lines cut
    truncations: int
    rotations: int
    gaps: int  # times that lines may be missing: a file was gone before it was read to its end
    last_line: float  # wall-clock time of the latest one; 0.0: none yet
    error: str = ""  # what cannot be read just now, of this log or of an earlier generation


def fingerprint(head: bytes) -> bytes:
    """Return what identifies a file that begins with these (at most `HEAD`) bytes."""
    return len(head).to_bytes(_COUNT) + blake2b(head, digest_size=16).digest()


def covered(mark: bytes) -> int:
    """Return how many bytes of the file a fingerprint covers."""
    return int.from_bytes(mark[:_COUNT])


def fits(mark: bytes, head: bytes) -> bool:
    """Return whether a file that begins with `head` can be the one the fingerprint was taken of.

    A fingerprint of an empty file fits every file.
    """
    count = covered(mark)
    return len(head) >= count and fingerprint(head[:count]) == mark


def recognisable(mark: bytes) -> bool:
    """Return whether a fingerprint alone is enough to know a file by."""
    return covered(mark) >= _RECOGNISABLE
