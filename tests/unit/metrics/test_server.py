"""The figures' server on real sockets."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from lab.network import netns
from throttled.errors import ConfigError, StoreError
from throttled.linux.unix_socket import BoundSocket
from throttled.metrics import server as server_module
from throttled.metrics.server import MAX_CONNECTIONS, MAX_REQUEST, MetricsServer

BOUND = netns.DEADMAN
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def _running(
    listen: str, expose: Callable[[], bytes] = lambda: b"figures 1\n"
) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(expose)
    await server.serve(listen)
    try:
        yield server
    finally:
        server.stop()


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(BOUND):
            await test()

    asyncio.run(bounded())


async def _refused(listen: str) -> ConfigError:
    server = MetricsServer(bytes)
    await server.serve(listen)
    assert server.error is not None
    assert server.listen == ""
    return server.error


async def _ask(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def test_get_head_and_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"

    async def test() -> None:
        async with _running(str(path)):
            head, _, body = (await _ask(path, GET)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
            assert b"Content-Length: 10\r\n" in head
            assert body == b"figures 1\n"
            assert (await _ask(path, GET.replace(b"GET", b"HEAD"))).endswith(b"close\r\n\r\n")
            query = GET.replace(b"/metrics", b"/metrics?name%5B%5D=x")
            assert b"figures 1" in await _ask(path, query)
            other = await _ask(path, GET.replace(b"/metrics", b"/"))
            assert other.startswith(b"HTTP/1.1 404")
            assert (await _ask(path, b"POST" + GET[3:])).startswith(b"HTTP/1.1 405")
        assert not path.exists()

    _run(test)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_and_a_port_that_is_taken(host: str) -> None:
    async def test() -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as occupied:
            occupied.bind((host.strip("[]"), 0))
            occupied.listen()
            port = occupied.getsockname()[1]
            error = await _refused(f"{host}:{port}")
            assert re.search(f"no metrics at .*{port}", error.message)
            assert "[metrics] listen" in error.hint
        async with _running(f"{host}:{port}"):
            reader, writer = await asyncio.open_connection(host.strip("[]"), port)
            writer.write(GET)
            assert (await reader.read()).endswith(b"figures 1\n")
            writer.close()

    _run(test)


def test_a_socket_that_nobody_listens_on_yet_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    first = BoundSocket(path, 0o666)
    with first.socket:
        error = asyncio.run(_refused(str(path)))
    assert "another program listens there" in error.message
    assert path.is_socket()
    first.close()


def test_a_killed_daemons_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def test() -> None:
        async with _running(str(path)):
            assert b"200 OK" in await _ask(path, GET)
        path.write_text("precious")
        await _refused(str(path))
        assert path.read_text() == "precious"

    _run(test)


def test_another_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"

    async def test() -> None:
        async with _running(str(first)) as server:
            await server.serve(str(first))
            await server.serve(str(second))
            assert not first.exists()
            assert b"200 OK" in await _ask(second, GET)
            await server.serve("")
            assert not second.exists()

    _run(test)


def test_a_store_that_fails_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"

    def expose() -> bytes:
        raise StoreError("the disk is gone", "buy one")

    async def test() -> None:
        async with _running(str(path), expose):
            answer = await _ask(path, GET)
            assert answer.startswith(b"HTTP/1.1 503")
            assert answer.endswith(b"the disk is gone\n")

    _run(test)


def test_strangers_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long, too slow, gone half-way: each is dropped, and the next one is served."""
    path = tmp_path / "m.sock"
    monkeypatch.setattr(server_module, "TIME_LIMIT", 0.2)

    async def test() -> None:
        async with _running(str(path)):
            with suppress(ConnectionError):  # it does not even read all of it
                assert await _ask(path, b"GET /" + b"x" * (4 * MAX_REQUEST)) == b""
            assert await _ask(path, b"GET /metrics HTTP/1.1\r\n") == b""  # and then silence
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET ")
            writer.close()
            assert b"200 OK" in await _ask(path, GET)

    _run(test)


def test_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    """Above the cap the one that has waited longest is closed."""
    path = tmp_path / "m.sock"

    async def test() -> None:
        async with _running(str(path)) as server:
            waiting = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
            for reader, _ in waiting[:3]:
                assert (await _ask(path, GET)).startswith(b"HTTP/1.1 200")
                assert await reader.read() == b""
                assert len(server._open) <= MAX_CONNECTIONS
                waiting.append(await asyncio.open_unix_connection(path))
            for _ in range(3 * MAX_CONNECTIONS):
                waiting.append(await asyncio.open_unix_connection(path))
                assert len(server._open) <= MAX_CONNECTIONS
            assert (await _ask(path, GET)).startswith(b"HTTP/1.1 200")
            for _, writer in waiting:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            async with asyncio.timeout(BOUND):
                while server._open:  # noqa: ASYNC110 - the server has no event for us
                    await asyncio.sleep(0.001)

    _run(test)


def test_asking_again_and_again_is_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.sock"
    monkeypatch.setattr(server_module, "FRESH", 1000.0)
    asked: list[int] = []

    def expose() -> bytes:
        asked.append(1)
        return b"figures\n"

    async def test() -> None:
        async with _running(str(path), expose):
            for _ in range(10):
                assert (await _ask(path, GET)).endswith(b"figures\n")
        assert len(asked) == 1

    _run(test)


def test_a_socket_is_open_to_all_and_nobody_elses_is_touched(tmp_path: Path) -> None:
    path, other = tmp_path / "m.sock", tmp_path / "precious"
    other.write_text("mine")
    other.chmod(0o600)

    async def test() -> None:
        async with _running(str(path)):
            assert path.stat().st_mode & 0o777 == 0o666
            assert "listens" in (await _refused(str(path))).message
            assert b"200 OK" in await _ask(path, GET)
            path.unlink()
            with socket.socket(socket.AF_UNIX) as successor:
                successor.bind(str(path))
        assert path.is_socket()
        path.unlink()
        path.symlink_to(other)
        await _refused(str(path))
        assert other.stat().st_mode & 0o777 == 0o600

    _run(test)


def test_a_host_that_cannot_be_is_reported() -> None:
    async def test() -> None:
        assert "no metrics at" in (await _refused("a..b:9547")).message

    _run(test)


def test_an_open_connection_at_the_end_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.sock"

    async def test() -> None:
        async with _running(str(path)) as server:
            silent.connect(str(path))
            while not server._open:  # noqa: ASYNC110 - the server has no event for us
                await asyncio.sleep(0)

    with socket.socket(socket.AF_UNIX) as silent:
        _run(test)
    assert caplog.text == ""
