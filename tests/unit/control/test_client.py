"""The control client against real sockets: an answer, or an error that says what to do."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.network.netns import DEADMAN
from throttled.control import client, results
from throttled.control.requests import Explain, Ping, Request
from throttled.control.results import Done, Result
from throttled.control.server import Peer, Server
from throttled.errors import (
    NotPermittedError,
    NotRunningError,
    RefusedError,
    ThrottledError,
    UsageError,
)


async def _handler(request: Request, _peer: Peer) -> Result:
    if isinstance(request, Explain):
        raise RefusedError("we will not", "do not")
    return Done("x" * 3_000_000)


@contextmanager
def _peer(path: Path, answer: bytes, *, hold: bool = False) -> Iterator[None]:
    """Accept one connection, answer with these bytes, hang up (or hold until the test ends)."""
    release = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
                if hold:
                    release.wait(DEADMAN)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            release.set()
            thread.join()


def test_asks_a_real_server_and_takes_a_long_answer(tmp_path: Path) -> None:
    async def test() -> None:
        server = Server(tmp_path / "s", "", _handler)
        await server.start()
        result = await asyncio.to_thread(client.request, tmp_path / "s", Ping())
        assert result == Done("x" * 3_000_000)
        with pytest.raises(ThrottledError, match="we will not") as caught:
            await asyncio.to_thread(client.request, tmp_path / "s", Explain("192.0.2.7"))
        assert (caught.value.hint, caught.value.exit_code) == ("do not", 1)
        await server.stop()

    asyncio.run(test())


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="not running") as caught:
        client.request(tmp_path / "s", Ping())
    assert "systemctl start throttled" in caught.value.hint


def test_a_dead_daemons_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(NotRunningError, match="not running"):
        client.request(tmp_path / "s", Ping())


@pytest.mark.root
def test_no_permission(tmp_path: Path) -> None:
    with _peer(tmp_path / "s", b"never sent"):
        os.seteuid(65534)
        try:
            with pytest.raises(NotPermittedError, match="not permitted") as caught:
                client.request(tmp_path / "s", Ping())
        finally:
            os.seteuid(0)
            with pytest.raises(ThrottledError):  # lets the peer go
                client.request(tmp_path / "s", Ping())
    assert "root" in caught.value.hint


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    with (
        _peer(tmp_path / "s", b'{"reply":', hold=True),
        pytest.raises(NotRunningError, match=r"within 0\.1 s"),
    ):
        client.request(tmp_path / "s", Ping(), timeout=0.1)


def test_a_daemon_that_dies_meanwhile(tmp_path: Path) -> None:
    with (
        _peer(tmp_path / "s", b'{"reply":'),
        pytest.raises(NotRunningError, match="without an answer"),
    ):
        client.request(tmp_path / "s", Ping())


def test_something_else_answers(tmp_path: Path) -> None:
    with (
        _peer(tmp_path / "s", b"220 mail.example.com ESMTP\n"),
        pytest.raises(ThrottledError, match="cannot be read"),
    ):
        client.request(tmp_path / "s", Ping())


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_REPLY", 1000)
    with (
        _peer(tmp_path / "s", b"x" * 2000, hold=True),
        pytest.raises(ThrottledError, match="too long"),
    ):
        client.request(tmp_path / "s", Ping())


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        client.request(tmp_path / ("s" * 120), Ping())
