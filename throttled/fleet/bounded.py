"""Connections to a Redis server that end with the first reply that is too long.

The client library reads a reply whole, however long it is, and connects again by itself, then
perhaps to another server. These connections do neither: what the server sends is counted where it
comes from the socket, from each command on, and a connection that ended stays so.

Owns no state but what each connection received; the limit is `REPLY`.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

#: Bytes of a reply, where no other limit is set. Small elements need ten times as much memory.
REPLY = 10 << 20


class TooLongError(RedisError):
    """A reply is too long; the connection is of no use now."""


if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection
else:
    AbstractConnection = object


class _Bounded(AbstractConnection):
    """What is added to a connection of the library, of whichever kind."""

    longest = REPLY  # bytes of a reply; of all connections of a client, see `limit`
    received = 0  # bytes since the last command
    stream: asyncio.StreamReader | None = None
    used = False

    # The library puts its stream here, in each of its versions and kinds of connections.
    @property
    def _reader(self) -> asyncio.StreamReader | None:
        return self.stream

    @_reader.setter
    def _reader(self, stream: asyncio.StreamReader | None) -> None:
        self.stream = stream
        if stream is None:
            return
        self.used = True
        feed = stream.feed_data

        def counted(data: Any) -> None:
            self.received += len(data)
            if self.received > self.longest:
                error = TooLongError(f"a reply of more than {self.longest} bytes")
                stream.set_exception(error)
            elif stream.exception() is None:
                feed(data)

        stream.feed_data = counted  # type: ignore[method-assign]

    async def connect(self) -> None:
        self._once()
        await super().connect()  # type: ignore[no-untyped-call]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's
        self._once()
        self.received = 0
        await super().send_packed_command(command, check_health)

    def _once(self) -> None:
        if self.used and not self.is_connected:
            raise Lost("the connection was lost")


def bound(client: Redis) -> None:
    """Let a client, which has not connected yet, end with a reply that is too long."""
    pool = client.connection_pool
    bases = (_Bounded, pool.connection_class)
    pool.connection_class = type("Bounded", bases, {})


def limit(client: Any, count: int) -> None:
    """Set how many bytes a reply to a client may have from now on."""
    client.connection_pool.connection_class.longest = count
