"""Messages between the daemon and the fleet process on their UNIX socket. Pure.

Each message is its length in four bytes, big-endian, and a msgpack map. The process moves bytes and
decides nothing; what it passes on is checked by the daemon (`throttled.fleet.wire`). Owns the bytes
of a message that has not come whole. Limits: `LONGEST` bytes in a message.
"""

from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

LONGEST = 1 << 20
Entry = tuple[str, bytes, bytes]  # id, data and MAC
_HEAD = 4


class FrameError(Exception):
    """What came is no message."""


class Connect(Struct, frozen=True, tag="connect"):
    """The daemon: connect to this Redis server; always the first message."""

    server: str  # URL
    site: str
    name: str  # of this host, and the user at the Redis server
    longest: float  # seconds that entries stay in the stream
    password: str = ""
    ca: str = ""  # PEM
    cert: str = ""  # PEM
    key: str = ""  # PEM
    sentinel_user: str = ""  # "": the default one
    sentinel_password: str = ""


class Read(Struct, frozen=True, tag="read"):
    """The daemon: read the streams of these peers, and no others, after these ids."""

    after: dict[str, str]


class Recorded(Struct, frozen=True, tag="recorded"):
    """The daemon: the entries of a peer are recorded, the next may come."""

    peer: str


class Add(Struct, frozen=True, tag="add"):
    """The daemon: add an entry to the stream of this host; answered with `Added` or `Down`."""

    data: bytes
    mac: bytes


class Server(Struct, frozen=True):
    """What the Redis server is."""

    version: str = ""
    eviction: str = ""  # maxmemory_policy; "" where not known
    role: str = ""  # "master", "slave"
    persistent: bool = True  # what it has survives its end
    wide: tuple[str, ...] = ()  # what its ACL lets this host do and need not
    open: bool = False  # it answers without a password


class Up(Struct, frozen=True, tag="up"):
    """The process: connected."""

    time: int  # the Redis server's, milliseconds
    server: Server
    last: Entry | None = None  # this host's last entry
    emptied: bool = False  # this host was not announced there: the Redis server's data is new


class Down(Struct, frozen=True, tag="down"):
    """The process: not connected, or an entry was not added."""

    kind: Literal["unreachable", "refused", "full", "process"]  # the last: the daemon's own
    text: str


class Names(Struct, frozen=True, tag="names"):
    """The process: hosts that have announced themselves, with the last id of their streams."""

    last: dict[str, str]
    too_long: list[str] = []  # hosts that are passed over: an entry of theirs is too long
    crowded: bool = False  # the list of hosts is too long to be read
    other: Entry | None = None  # the latest of the own stream that the process did not add


class Entries(Struct, frozen=True, tag="entries"):
    """The process: the next entries of a peer. No more of it come before `Recorded`."""

    peer: str
    server: int  # the Redis server's time, milliseconds
    entries: list[Entry]


class Added(Struct, frozen=True, tag="added"):
    """The process: the entry was added."""

    id: str


ToProcess = Connect | Read | Recorded | Add
ToDaemon = Up | Down | Names | Entries | Added
Message = TypeVar("Message", bound=Struct)

_encode = msgspec.msgpack.Encoder().encode
to_process: msgspec.msgpack.Decoder[ToProcess] = msgspec.msgpack.Decoder(ToProcess)
to_daemon: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)


def encode(message: ToProcess | ToDaemon) -> bytes:
    """Return a message as bytes.

    Raises:
        FrameError: it is longer than a message may be.
    """
    body = _encode(message)
    if len(body) > LONGEST:
        raise FrameError(f"a message of {len(body)} bytes")
    return len(body).to_bytes(_HEAD) + body


class Frames(Generic[Message]):
    """Messages out of bytes as they come."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        """Begin with nothing; `decoder` reads the messages of one direction."""
        self._decode = decoder.decode
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole now.

        Raises:
            FrameError: what came is no message; the connection has to be closed.
        """
        self._rest += data
        while len(self._rest) >= _HEAD:
            length = int.from_bytes(self._rest[:_HEAD])
            if length > LONGEST:
                raise FrameError(f"a message of {length} bytes")
            if len(self._rest) < _HEAD + length:
                return
            body = bytes(self._rest[_HEAD : _HEAD + length])
            del self._rest[: _HEAD + length]
            try:
                message = self._decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise FrameError(str(error)) from error
            yield message
