"""Entries that hosts exchange: encoded, authenticated, and read from bytes of strangers. Pure.

An entry of a stream has the fields `d`, a msgpack array, and `m`, its MAC:

    d = [version, algorithm, number, before, kind, rows, writer]
    m = blake2b(d, site, peer), 16 bytes, keyed with the fleet's secret

`number` grows with each entry of a peer, `before` is the number of the one before it; `writer` is
random at each start of a daemon, so that two hosts of the same name are noticed. Newer versions may
append to `d` and to a row; an unknown kind or version is skipped. No text of a log and
no name of an account is in an entry: names that clients tried are keyed hashes of 32 bits.

Owns no state. Limits: `ROWS` rows and `BYTES` bytes in an entry.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from throttled.model import Scope

VERSION = 1
ALGORITHM = 1  # blake2b keyed, 16 bytes
ROWS = 500
BYTES = 65_536
TAGS = 1_000  # in a row
SECRET = 32  # bytes of the fleet's secret
_MAC = 16
_PERSON = b"throttled-fleet"
_MICROSECONDS = 1e6
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LATEST = (1 << 63) - 1
#: Microseconds by which a number may be ahead of a clock: more than any clock is wrong by.
_AHEAD = 100 * 366 * 86400 * 1_000_000

Kind = Literal["ban", "unban", "names", "heartbeat"]

_Number = Annotated[int, Meta(ge=0, le=_LATEST)]
_Seconds = Annotated[int, Meta(ge=0, le=10 * 366 * 86400)]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]
#: An IPv6 network has at most 43 characters.
_Subject = Annotated[str, Meta(min_length=2, max_length=43)]
_Tag = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Limit = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,39}\Z")]


class WireError(Exception):
    """What a peer or the Redis server sent is no entry; `outcome` names the reason."""

    def __init__(self, outcome: Literal["forged", "malformed"], message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Ban(Struct, frozen=True, array_like=True, gc=False):
    """A ban that a host decided by itself."""

    subject: _Subject  # address; network, where an operator banned it
    scope: Scope
    seconds: _Seconds  # left when it was published
    limit: _Limit
    level: Annotated[int, Meta(ge=0, le=1000)] = 0  # step of the peer's ladder
    value: _Count = 0
    threshold: _Count = 0


class Unban(Struct, frozen=True, array_like=True, gc=False):
    """A subject that an operator unbanned."""

    subject: _Subject
    scope: Scope
    exempt: _Seconds = 0  # seconds in which the subject is not acted on


class Names(Struct, frozen=True, array_like=True, gc=False):
    """User names that a client tried lately, as tags."""

    client: _Subject  # an address
    scope: Scope
    tags: Annotated[list[_Tag], Meta(min_length=1, max_length=TAGS)]


class Heartbeat(Struct, frozen=True, array_like=True, gc=False):
    """A sign of life, every 60 seconds."""

    version: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.+~-]{1,40}\Z")]  # of the program
    entries: _Count = 0  # active


Row = Ban | Unban | Names | Heartbeat


class Entry(Struct, frozen=True):
    """One entry of a peer's stream."""

    number: int
    before: int  # the number of the entry before
    kind: str  # a `Kind`, or one that only newer versions know
    rows: Sequence[Row]  # of the kind's class; none of an unknown kind or version
    writer: int = 0  # of this start of the peer's daemon; 0: not named


class _Head(Struct, frozen=True, array_like=True):
    version: Annotated[int, Meta(ge=1)]
    algorithm: int
    number: _Number
    before: _Number
    kind: Annotated[str, Meta(max_length=40)]
    rows: Raw
    writer: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0


_ROWS = Meta(min_length=1, max_length=ROWS)
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_DECODERS: dict[str, msgspec.msgpack.Decoder[Sequence[Row]]] = {
    "ban": msgspec.msgpack.Decoder(Annotated[list[Ban], _ROWS]),
    "unban": msgspec.msgpack.Decoder(Annotated[list[Unban], _ROWS]),
    "names": msgspec.msgpack.Decoder(Annotated[list[Names], _ROWS]),
    "heartbeat": msgspec.msgpack.Decoder(Annotated[list[Heartbeat], _ROWS]),
}
_encode = msgspec.msgpack.Encoder().encode


class Seal(Struct, frozen=True):
    """What authenticates the entries of one host."""

    secret: bytes
    site: str  # without a NUL byte, as the configuration allows no other name
    peer: str  # likewise

    def mac(self, data: bytes) -> bytes:
        """Return the MAC of an entry's data."""
        about = f"{self.site}\0{self.peer}\0".encode()
        digest = blake2b(about, digest_size=_MAC, key=self.secret, person=_PERSON)
        digest.update(data)
        return digest.digest()


def number_after(before: int, wall: float) -> int:
    """Return the number of the next entry: microseconds of the wall clock, and always growing."""
    return max(before + 1, int(wall * _MICROSECONDS))


def encode(seal: Seal, entry: Entry) -> tuple[bytes, bytes]:
    """Return the fields `d` and `m` of an entry."""
    head = VERSION, ALGORITHM, entry.number, entry.before, entry.kind
    data = _encode((*head, entry.rows, entry.writer))
    return data, seal.mac(data)


def decode(seal: Seal, data: bytes, mac: bytes) -> Entry:
    """Return the entry of the fields `d` and `m`.

    Raises:
        WireError: the MAC is another's, or the data is no entry.
    """
    if len(data) > BYTES:
        raise WireError("malformed", f"longer than {BYTES} bytes")
    if not compare_digest(seal.mac(data), mac):
        raise WireError("forged", "not made with the secret of this fleet, or not by this peer")
    try:
        head = _decode_head(data)
        rows: Sequence[Row] = ()
        decoder = _DECODERS.get(head.kind)
        if head.version == VERSION and decoder is not None:
            rows = decoder.decode(head.rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed", str(error)) from error
    return Entry(head.number, head.before, head.kind, rows, head.writer)


def read(seal: Seal, data: bytes, mac: bytes, now: float) -> Entry:
    """Return the entry of the fields `d` and `m`, unless its number is far in the future.

    After a number that no other can follow, all others of that host would be ignored.

    Args:
        seal: of the host.
        data: the field `d`.
        mac: the field `m`.
        now: wall clock, of this host or of the Redis server.

    Raises:
        WireError: the MAC is another's, or the data is no entry.
    """
    entry = decode(seal, data, mac)
    if entry.number > now * _MICROSECONDS + _AHEAD:
        raise WireError("malformed", f"its number {entry.number} is more than 100 years ahead")
    return entry


def stream(site: str, peer: str) -> str:
    """Return the key of a host's stream."""
    return f"throttled:{site}:log:{peer}"


def is_name(text: str) -> bool:
    """Return whether a text may be the name of a host."""
    return _NAME.fullmatch(text) is not None


def roster(site: str) -> str:
    """Return the key of the hash in which hosts announce their names."""
    return f"throttled:{site}:peers"


def place(text: str) -> tuple[int, int]:
    """Return a stream id, such as 1700000000000-0, as numbers that can be compared.

    Raises:
        WireError: it is none.
    """
    first, dash, second = text.partition("-")
    if dash and all(n.isascii() and n.isdigit() and len(n) <= 20 for n in (first, second)):
        return int(first), int(second)
    raise WireError("malformed", f"not a stream id: {text[:50]!r}")


def seconds_left(seconds: float, age: int, longest: float) -> float:
    """Return what is left of a duration; only the Redis server's clock counts.

    Args:
        seconds: left when the entry was added.
        age: of the entry: the Redis server's time less that of its id, milliseconds.
        longest: never more than this.
    """
    return max(0.0, min(seconds - max(0.0, age / 1000), longest))
