"""The fleet process: moves entries between the daemon and the Redis server. Has no rights.

It listens on a UNIX socket for one daemon at a time (root, or its own user), which sends what it
needs to connect. It checks nothing and stores nothing; a Redis server that lies or sends without
end is contained by this process and its memory limit (`throttled-fleet.service`).

The client's own retries are switched off: with them an outage is hidden for seconds, and a stopped
server for ever. Owns the two connections to the Redis server: one waits for entries, one writes.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from throttled.fleet import frames, wire
from throttled.fleet.frames import Add, Added, Connect, Down, Entries, Names, Read, Recorded, Up
from throttled.linux.unix_socket import credentials

_CONNECT = 2.0  # seconds
_WRITE = 2.0
_BLOCK = 5.0
_BLOCKED = 7.0  # a blocked read without an answer for so long is of a dead connection
_FIRST, _LONGEST = 0.2, 10.0  # seconds before it is connected again
#: Until so many seconds the daemon may take over entries before others are waited for without it.
_TAKING = 0.005
_SHORT = 10  # milliseconds that others are waited for then
_PIECE = 4  # entries of a peer in one answer
_ROSTER = 10.0
_NAMES = 1000  # of hosts that are looked up in one go
_IDLE = 1.0  # seconds between two pings where there is nothing to wait for
_REFUSED = (exceptions.AuthenticationError, exceptions.NoPermissionError)
_ERRORS = (exceptions.RedisError, OSError, TimeoutError, EOFError, ValueError)


class Mover:
    """One daemon's session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the daemon at the other end of a connection."""
        self._reader, self._writer = reader, writer
        self._settings: Connect | None = None
        self._after: dict[str, str] = {}
        self._busy: set[str] = set()  # peers whose entries the daemon has not recorded yet
        self._changed = asyncio.Event()
        self._adds: asyncio.Queue[Add] = asyncio.Queue()
        self._offset = 0.0  # of the Redis server's clock to the monotonic one, seconds

    async def run(self) -> None:
        """Serve until the daemon closes the connection."""
        receiving = asyncio.create_task(self._receive())
        connecting = asyncio.create_task(self._connected())
        try:
            await asyncio.wait({receiving, connecting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (receiving, connecting):
                task.cancel()
            await asyncio.gather(receiving, connecting, return_exceptions=True)
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
        elif isinstance(message, Read):
            self._after = dict(message.after)
        elif isinstance(message, Recorded):
            self._busy.discard(message.peer)
        else:
            self._adds.put_nowait(message)
        self._changed.set()

    def _send(self, message: frames.ToDaemon) -> None:
        self._writer.write(frames.encode(message))

    async def _connected(self) -> None:
        """Be connected to the Redis server, again and again."""
        while self._settings is None:
            await self._wait()
        pause = _FIRST
        while True:
            began = time.monotonic()
            try:
                async with _clients(self._settings) as (reading, writing):
                    await self._session(self._settings, reading, writing)
            except _ERRORS as error:
                self._send(_down(error))
            self._adds = asyncio.Queue()
            if time.monotonic() - began > _LONGEST:
                pause = _FIRST
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST)

    async def _session(self, settings: Connect, reading: Any, writing: Any) -> None:
        info = await writing.info("server")
        memory = await writing.info("memory")
        own = wire.stream(settings.site, settings.name)
        last = await writing.xrevrange(own, count=1)
        key, name = wire.roster(settings.site), settings.name
        emptied = name.encode() not in await writing.hgetall(key)
        await writing.hset(key, name, "1")
        await self._learn_time(writing)
        version = str(info.get("redis_version", ""))[:40]
        found = [_entry(each) for each in last]
        policy = str(memory.get("maxmemory_policy", ""))[:40]
        self._send(Up(self._server(), version, policy, found[0] if found else None, emptied))
        tasks = [
            asyncio.create_task(job)
            for job in (
                self._roster(settings, writing),
                self._write(settings, writing),
                self._read(settings, reading),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _learn_time(self, client: Any) -> None:
        before = time.monotonic()
        seconds, micro = await client.time()
        self._offset = seconds + micro / 1e6 - (before + time.monotonic()) / 2

    def _server(self) -> int:
        """Return the Redis server's time in milliseconds."""
        return int((self._offset + time.monotonic()) * 1000)

    async def _roster(self, settings: Connect, client: Any) -> None:
        """Pass on which hosts there are, `_NAMES` at a time.

        Raises:
            redis.ConnectionError: this host is no longer among them.
        """
        key, first = wire.roster(settings.site), 0
        while True:
            names = [_text(name) for name in await client.hgetall(key)]
            if settings.name not in names:
                raise exceptions.ConnectionError("the Redis server lost its data")
            last: dict[str, str] = {}
            for name in filter(wire.is_name, names[first : first + _NAMES]):
                with suppress(exceptions.ResponseError):  # no stream, or none that the ACL permits
                    about = await client.xinfo_stream(wire.stream(settings.site, name))
                    last[name] = _text(about["last-generated-id"])
            first = first + _NAMES if first + _NAMES < len(names) else 0
            self._send(Names(last))
            await asyncio.sleep(_ROSTER)
            await self._learn_time(client)

    async def _write(self, settings: Connect, client: Any) -> None:
        key = wire.stream(settings.site, settings.name)
        while True:
            entry = await self._adds.get()
            oldest = max(0, self._server() - int(settings.longest * 1000))
            fields = {"d": entry.data, "m": entry.mac}
            try:
                added = await client.xadd(key, fields, minid=f"{oldest}-0", approximate=True)
            except exceptions.ResponseError as error:  # reading continues
                self._send(_down(error))
            else:
                self._send(Added(_text(added)))

    async def _read(self, settings: Connect, client: Any) -> None:
        """Wait for entries of the peers that the daemon is ready for."""
        names: dict[str, str] = {}
        while True:
            self._changed.clear()
            if self._busy & self._after.keys():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wait(), _TAKING)
            names = {wire.stream(settings.site, n): n for n in self._after if n not in self._busy}
            if not names:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wait(), _IDLE)
                await client.ping()
                continue
            after = {stream: self._after[name] for stream, name in names.items()}
            whole = len(names) == len(self._after)
            block = int(_BLOCK * 1000) if whole else _SHORT
            answer = await client.xread(dict(after), count=_PIECE, block=block)
            for stream, entries in answer or ():
                self._pass_on(names[_text(stream)], entries)
            await self._writer.drain()

    def _pass_on(self, name: str, entries: list[Any]) -> None:
        found = [_entry(each) for each in entries]
        if not found or name not in self._after:
            return
        self._after[name] = found[-1][0]
        self._busy.add(name)
        self._send(Entries(name, self._server(), found))

    async def _wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()


def _entry(raw: Any) -> tuple[str, bytes, bytes]:
    """Return id, data and MAC of an entry; what is longer than allowed as nothing."""
    identity, fields = raw
    data, mac = ((fields or {}).get(name, b"") for name in (b"d", b"m"))
    return _text(identity), data if len(data) <= wire.BYTES else b"", mac[:64]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _down(error: BaseException) -> Down:
    text = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, exceptions.ResponseError) and "maxmemory" in str(error):
        return Down("full", text)
    # redis-py 8.1 raises its ConnectionError for the server's WRONGPASS.
    refused = isinstance(error, (*_REFUSED, exceptions.ResponseError)) or "password" in text
    return Down("refused" if refused else "unreachable", text)


@asynccontextmanager
async def _clients(settings: Connect) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a client that waits for entries, and one that writes."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tls: dict[str, Any] = {}
        for name, option in (
            ("ca", "ssl_ca_certs"),
            ("cert", "ssl_certfile"),
            ("key", "ssl_keyfile"),
        ):
            if text := getattr(settings, name):
                file = directory / name
                file.touch(0o600)
                file.write_text(text)
                tls[option] = str(file)
        clients = []
        for seconds in (_BLOCKED, _WRITE):
            client = _client(settings, seconds, tls)
            stack.push_async_callback(_close, client)
            clients.append(client)
        yield clients[0], clients[1]


def _client(settings: Connect, seconds: float, tls: Mapping[str, Any]) -> Any:
    options: dict[str, Any] = {
        "username": settings.name,
        "password": settings.password,
        "socket_timeout": seconds,
        "socket_connect_timeout": _CONNECT,
        "retry": Retry(NoBackoff(), 0),
        "single_connection_client": False,
        "max_connections": 2,
        "decode_responses": False,
    }
    if not settings.password:
        del options["username"], options["password"]
    if settings.server.startswith("rediss://"):
        options |= tls
    return redis.asyncio.Redis.from_url(settings.server, **options)


async def _close(client: Any) -> None:
    with suppress(*_ERRORS):
        await asyncio.wait_for(_awaited(client), _CONNECT)


async def _awaited(client: Any) -> None:
    closing: Awaitable[Any] = client.aclose() if hasattr(client, "aclose") else client.close()
    await closing


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
