"""Connections of the fleet process to a Redis or Valkey server, and what is wrong with the server.

The client's own retries are switched off: with them an outage is hidden for seconds, and a stopped
server for ever. By `sentinel://HOST:PORT,HOST:PORT/NAME` (`sentinels://`: TLS, also to Sentinels)
the server that Sentinels name now is used. Owns no state.
"""

import secrets
import tempfile
from asyncio import wait_for
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import redis.asyncio
from msgspec.structs import replace
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from throttled.address import version
from throttled.fleet import bounded, wire
from throttled.fleet.frames import Connect, Down, Entry, Server

CONNECT = 2.0  # seconds
WRITE = 2.0
BLOCKED = 7.0  # a blocked read without an answer for so long is of a dead connection
ERRORS = (exceptions.RedisError, OSError, TimeoutError, EOFError, ValueError)
_REFUSED = (exceptions.AuthenticationError, exceptions.NoPermissionError)
REPLICA = "this server is a replica"
_PORT = 26379  # of a Sentinel
_IPV6 = 6
_TEXT = 40  # characters of a text that the server reports
#: Commands that a host needs not, by what they would let it do. They change nothing.
_NEEDLESS = {
    "write the streams of other hosts": ("XADD", "{other}", "NOMKSTREAM", "*", "d", ""),
    "delete keys": ("DEL", "{other}"),
    "read the server's configuration": ("CONFIG", "GET", "maxmemory-policy"),
}


@asynccontextmanager
async def clients(settings: Connect) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a client that waits for entries, and one that writes."""
    async with AsyncExitStack() as stack:
        tls = _tls(settings, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        url, tls = await _server(settings, tls)
        made = []
        for seconds in (BLOCKED, WRITE):
            client = _client(settings, url, seconds, tls)
            stack.push_async_callback(_close, client)
            made.append(client)
        yield made[0], made[1]


async def inspect(settings: Connect, client: Any) -> Server:
    """Return what the server is, and what is wrong with it.

    Args:
        settings: of this host.
        client: a connection.
    """
    info = await client.info()
    wide = []
    other = wire.stream(settings.site, f"check-{secrets.token_hex(8)}")
    for what, words in _NEEDLESS.items():
        with suppress(exceptions.ResponseError):
            await client.execute_command(*(word.format(other=other) for word in words))
            wide.append(what)
    return Server(
        version=_clipped(info, "valkey_version") or _clipped(info, "redis_version"),
        eviction=_clipped(info, "maxmemory_policy"),
        role=_clipped(info, "role"),
        persistent=str(info.get("aof_enabled", "1")) == "1",
        wide=tuple(wide),
        open=await _open(settings),
    )


async def _open(settings: Connect) -> bool:
    """Return whether the server answers without a password."""
    if not settings.password:
        return True
    with suppress(*ERRORS):
        async with clients(replace(settings, password="")) as (_, client):
            await client.ping()
            return True
    return False


def entry(raw: Any) -> Entry:
    """Return id, data and MAC of an entry; what is longer than allowed as nothing."""
    identity, fields = raw
    data, mac = ((fields or {}).get(name, b"") for name in (b"d", b"m"))
    return text(identity)[:64], data if len(data) <= wire.BYTES else b"", mac[:64]


def text(value: Any) -> str:
    """Return what the server sent as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def down(error: BaseException) -> Down:
    """Return why there is no connection, or why an entry was not added."""
    what = str(error)[:300] or "no answer"  # of a TimeoutError
    if isinstance(error, exceptions.ReadOnlyError):
        what = REPLICA
    elif isinstance(error, exceptions.ResponseError) and "maxmemory" in what:
        return Down("full", what)
    # redis-py 8.1 raises its ConnectionError for the server's WRONGPASS.
    refused = isinstance(error, (*_REFUSED, exceptions.ResponseError)) or "password" in what
    return Down("refused" if refused else "unreachable", what)


def _clipped(info: Mapping[str, Any], name: str) -> str:
    return str(info.get(name, ""))[:_TEXT]


def _tls(settings: Connect, directory: Path) -> dict[str, Any]:
    """Return the client's options for TLS; files are what it takes."""
    if not settings.server.startswith(("rediss://", "sentinels://")):
        return {}
    # Not the default of redis-py before 6.
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    for name, option in (("ca", "ca_certs"), ("cert", "certfile"), ("key", "keyfile")):
        content = getattr(settings, name)
        if content:
            file = directory / name
            file.touch(0o600)
            file.write_text(content)
            options[f"ssl_{option}"] = str(file)
    return options


async def _server(settings: Connect, tls: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the URL of the server that is used, and the options for it."""
    scheme, _, rest = settings.server.partition("://")
    if scheme not in {"sentinel", "sentinels"}:
        return settings.server, tls
    places, _, name = rest.partition("/")
    options = _timeouts(CONNECT) | tls | ({"ssl": True} if scheme == "sentinels" else {})
    if settings.sentinel_password:
        user = settings.sentinel_user or None
        options |= {"username": user, "password": settings.sentinel_password}
    wrong = "refuses the password" if settings.sentinel_password else "asks for a password"
    errors: dict[str, str] = {}
    for place in places.split(","):
        try:
            host, port = await _master(_place(place), name, options)
        except ERRORS as error:
            refused = down(error).kind == "refused"
            errors[place] = wrong if refused else str(error)[:_TEXT]
            continue
        host = f"[{host}]" if version(host) == _IPV6 else host
        return f"{'rediss' if scheme == 'sentinels' else 'redis'}://{host}:{port}", tls
    what = "; ".join(f"{place} {why}" for place, why in errors.items())
    what = f"no Sentinel names the server {name}: {what}"
    raise (_REFUSED[0] if wrong in errors.values() else exceptions.ConnectionError)(what)


async def _master(place: tuple[str, int], name: str, options: Mapping[str, Any]) -> tuple[str, int]:
    """Return which server a Sentinel names now."""
    sentinel: Any = redis.asyncio.Redis(host=place[0], port=place[1], **options)
    bounded.bound(sentinel)
    try:
        found = await sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
    finally:
        await _close(sentinel)
    if not found:
        raise exceptions.RedisError("knows none")
    host, port = found
    return text(host), int(port)


def _place(written: str) -> tuple[str, int]:
    """Return host and port of a Sentinel."""
    host, colon, port = written.rpartition(":")
    if not colon or not port.isdigit():
        host, port = written, str(_PORT)
    return host.strip("[]"), int(port)


def _timeouts(seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": CONNECT,
        "retry": Retry(NoBackoff(), 0),
    }


def _client(settings: Connect, url: str, seconds: float, tls: Mapping[str, Any]) -> Any:
    options: dict[str, Any] = {
        **_timeouts(seconds),
        **tls,
        "max_connections": 2,
        "decode_responses": False,
    }
    if settings.password:
        options |= {"username": settings.name, "password": settings.password}
    client = redis.asyncio.Redis.from_url(url, **options)
    bounded.bound(client)
    return client


async def _close(client: Any) -> None:
    with suppress(*ERRORS):
        await wait_for(_awaited(client), CONNECT)


async def _awaited(client: Any) -> None:
    closing: Awaitable[Any] = client.aclose() if hasattr(client, "aclose") else client.close()
    await closing
