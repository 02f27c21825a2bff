"""The fleet process: moves entries between the daemon and the Redis server. Has no rights.

It listens on a UNIX socket for one daemon at a time (root, or its own user), which sends what it
needs to connect. It checks nothing and stores nothing; what a Redis server that lies or sends
without end does ends here: replies are bounded, and so is the memory (`throttled-fleet.service`).

Owns the two connections to the Redis server: one waits for entries, one writes.
"""

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import exceptions

from throttled.fleet import connect, frames, wire
from throttled.fleet.bounded import TooLongError
from throttled.fleet.connect import text
from throttled.fleet.frames import Add, Added, Connect, Entries, Names, Read, Recorded, Up
from throttled.fleet.reading import PASSED_OVER, Reading
from throttled.linux.unix_socket import credentials

_FIRST, _LONGEST = 0.2, 10.0  # seconds before it is connected again
_SOON, _ROSTER = 1.0, 10.0  # seconds between two look-ups of hosts: at first, and later
_NAMES = 1000  # of hosts that are looked up in one go
_EMPTIED = "the Redis server lost its data"
_OWN = 32  # entries of the own stream that are looked at
_CANCEL = 0.5  # seconds before a task that did not end is cancelled again


class Mover:
    """One daemon's session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the daemon at the other end of a connection."""
        self._reader, self._writer = reader, writer
        self._settings: Connect | None = None
        self._asked = asyncio.Event()  # `Connect` came
        self._reading = Reading()
        self._answered = asyncio.Event()  # `Read` came since it is connected
        self._adds: asyncio.Queue[Add] = asyncio.Queue()
        self._added: deque[str] = deque(maxlen=_OWN)  # ids of the latest entries
        self._crowded = 0.0  # monotonic, until when the list of hosts is not read
        self._emptied = False  # the server's data is new, which the daemon does not know yet
        self._offset = 0.0  # of the Redis server's clock to the monotonic one, seconds

    async def run(self) -> None:
        """Serve until the daemon closes the connection."""
        receiving = asyncio.create_task(self._receive())
        connecting = asyncio.create_task(self._connected())
        try:
            await asyncio.wait({receiving, connecting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end({receiving, connecting})
            self._writer.close()

    async def _receive(self) -> None:
        messages = frames.Frames(frames.to_process)
        with suppress(frames.FrameError, OSError):
            while data := await self._reader.read(1 << 16):
                for message in messages.feed(data):
                    self._message(message)

    def _message(self, message: frames.ToProcess) -> None:
        if isinstance(message, Connect):
            self._settings = message
            self._asked.set()
        elif isinstance(message, Read):
            self._reading.follow(message.after)
            self._answered.set()
        elif isinstance(message, Recorded):
            self._reading.recorded(message.peer)
        else:
            self._adds.put_nowait(message)

    def _send(self, message: frames.ToDaemon) -> None:
        self._writer.write(frames.encode(message))

    async def _connected(self) -> None:
        """Be connected to the Redis server, again and again."""
        while self._settings is None:
            await self._asked.wait()
        pause = _FIRST
        while True:
            began = time.monotonic()
            try:
                async with connect.clients(self._settings) as (reading, writing):
                    await self._session(self._settings, reading, writing)
            except connect.ERRORS as error:
                self._send(connect.down(error))
            self._adds = asyncio.Queue()
            if time.monotonic() - began > _LONGEST:
                pause = _FIRST
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST)

    async def _session(self, settings: Connect, reading: Any, writing: Any) -> None:
        server = await connect.inspect(settings, writing)
        if server.role == "slave":
            raise exceptions.ReadOnlyError(connect.REPLICA)
        own = wire.stream(settings.site, settings.name)
        last = await writing.xrevrange(own, count=1)
        known = await writing.hexists(wire.roster(settings.site), settings.name)
        self._emptied = self._emptied or not known
        self._answered.clear()
        await self._learn_time(writing)
        found = [connect.entry(each) for each in last]
        self._send(Up(self._server(), server, found[0] if found else None, self._emptied))
        tasks = {
            asyncio.create_task(job)
            for job in (
                self._roster(settings, writing, announced=bool(known)),
                self._write(settings, writing),
                self._read(settings, reading),
            )
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end(tasks)

    async def _learn_time(self, client: Any) -> None:
        before = time.monotonic()
        seconds, micro = await client.time()
        self._offset = seconds + micro / 1e6 - (before + time.monotonic()) / 2

    def _server(self) -> int:
        """Return the Redis server's time in milliseconds."""
        return int((self._offset + time.monotonic()) * 1000)

    async def _roster(self, settings: Connect, client: Any, *, announced: bool) -> None:
        """Pass on which hosts there are, `_NAMES` at a time.

        Args:
            settings: of this host.
            client: a connection.
            announced: this host is among them.

        Raises:
            redis.ConnectionError: this host is no longer among them, or was not in between.
            redis.ReadOnlyError: the server is a replica now.
        """
        key, first = wire.roster(settings.site), 0
        pause = _SOON
        while True:
            if announced and not await client.hexists(key, settings.name):
                raise exceptions.ConnectionError(_EMPTIED)
            names = await self._hosts(client, key)
            last: dict[str, str] = {}
            for name in filter(self._reading.is_readable, names[first : first + _NAMES]):
                with suppress(exceptions.ResponseError):  # no stream, or none that the ACL permits
                    last[name] = await self._last(client, settings.site, name)
            first = first + _NAMES if first + _NAMES < len(names) else 0
            crowded = time.monotonic() < self._crowded
            other = await self._other(settings, client)
            self._send(Names(last, self._reading.passed_over(), crowded, other))
            await self._answered.wait()  # it knows by then that the server was emptied
            added = await _announce(client, key, settings.name)
            self._emptied = announced and bool(added)
            if self._emptied:  # since `hexists`
                raise exceptions.ConnectionError(_EMPTIED)
            announced = announced or added is not None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _ROSTER)
            await self._learn_time(client)

    async def _hosts(self, client: Any, key: str) -> list[str]:
        """Return the hosts that announced themselves; where these are too many, those read now.

        Raises:
            TooLongError: these are too many.
        """
        if time.monotonic() < self._crowded:
            return self._reading.names()
        try:
            return [name for name in map(text, await client.hgetall(key)) if wire.is_name(name)]
        except TooLongError:
            self._crowded = time.monotonic() + PASSED_OVER
            raise

    async def _last(self, client: Any, site: str, name: str) -> str:
        """Return the last id of a stream.

        Raises:
            TooLongError: its first or last entry, which the answer has too, is too long.
            redis.ResponseError: there is none.
        """
        try:
            about = await client.xinfo_stream(wire.stream(site, name))
        except TooLongError:
            self._reading.pass_over(name)
            raise
        return text(about["last-generated-id"])

    async def _other(self, settings: Connect, client: Any) -> frames.Entry | None:
        """Return the latest of the last entries of the own stream that this process did not add."""
        found = await client.xrevrange(wire.stream(settings.site, settings.name), count=_OWN)
        others = (each for each in map(connect.entry, found) if each[0] not in self._added)
        return next(others, None)

    async def _write(self, settings: Connect, client: Any) -> None:
        key = wire.stream(settings.site, settings.name)
        while True:
            entry = await self._adds.get()
            oldest = max(0, self._server() - int(settings.longest * 1000))
            fields = {"d": entry.data, "m": entry.mac}
            try:
                added = await client.xadd(key, fields, minid=f"{oldest}-0", approximate=True)
            except exceptions.ReadOnlyError:  # a replica now: connect to the other
                raise
            except exceptions.ResponseError as error:  # reading continues
                self._send(connect.down(error))
            else:
                self._added.append(text(added))
                self._send(Added(text(added)))

    async def _read(self, settings: Connect, client: Any) -> None:
        while True:
            for name, entries in await self._reading.read(settings.site, client):
                self._send(Entries(name, self._server(), entries))
            await self._writer.drain()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end: the library may lose a cancellation while it connects."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_CANCEL)


async def _announce(client: Any, key: str, name: str) -> int | None:
    """Announce this host.

    Returns:
        1: it was not among the announced; 0: it was; None: the server is full.
    """
    try:
        added: int = await client.hset(key, name, "1")
    except exceptions.ResponseError as error:
        if connect.down(error).kind != "full":
            raise
        return None
    return added


def _permitted(writer: asyncio.StreamWriter, own: int) -> bool:
    """Return whether the other end is root or this user."""
    _pid, uid, _gid = credentials(writer.get_extra_info("socket"))
    return uid in {0, own}


async def serve(path: Path, own: int) -> None:
    """Serve the daemon at a UNIX socket, for ever.

    Args:
        path: of the socket.
        own: user id of this process.
    """
    current: asyncio.Task[None] | None = None

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal current
        if not _permitted(writer, own):
            writer.close()
            return
        if current is not None:  # a daemon that was started anew
            current.cancel()
        current = asyncio.current_task()
        with suppress(asyncio.CancelledError):
            await Mover(reader, writer).run()

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, before there is anything to wait for
    server = await asyncio.start_unix_server(session, path)
    path.chmod(0o666)  # noqa: ASYNC240 - who connects is checked, see `_permitted`
    async with server:
        await server.serve_forever()
