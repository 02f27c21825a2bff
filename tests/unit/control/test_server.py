"""The control server on a real socket: hostile clients, modes, stale files, errors."""

import asyncio
import grp
import json
import logging
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.network import netns
from throttled.control import client
from throttled.control import server as server_module
from throttled.control.admission import CONNECTIONS, PER_USER, Admission
from throttled.control.requests import MAX_REQUEST, Explain, Ping, Request, Unban
from throttled.control.results import Done, Result
from throttled.control.server import Peer, Server
from throttled.errors import ConfigError, NotPermittedError, RefusedError
from throttled.linux.claim import beside

BOUND = netns.DEADMAN


async def _handler(request: Request, peer: Peer) -> Result:
    match request:
        case Ping():
            return Done(f"{peer.pid} {peer.uid} {peer.gid}")
        case Explain():
            raise RefusedError("we will not", "do not")
        case Unban():
            return Done("x" * 5_000_000)
        case _:
            raise ZeroDivisionError


@asynccontextmanager
async def _running(path: Path, **more: Any) -> AsyncIterator[Server]:
    server = Server(path, more.pop("group", ""), more.pop("handler", _handler), **more)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(BOUND):
            await test()

    asyncio.run(bounded())


async def _ask(path: Path, data: bytes, *, eof: bool = False) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    writer.write(data)
    if eof:
        writer.write_eof()
    line = await reader.readline()
    writer.close()
    answer: dict[str, Any] = json.loads(line)
    return answer


PING = b'{"op":"ping"}\n'


def test_answers_and_names_the_peer(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            answer = await _ask(tmp_path / "s", PING)
            expected = f"{os.getpid()} {os.getuid()} {os.getgid()}"
            assert answer == {"reply": "ok", "result": {"kind": "done", "message": expected}}

    _run(test)


def test_a_request_without_newline_is_read_up_to_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            assert (await _ask(tmp_path / "s", PING.strip(), eof=True))["reply"] == "ok"

    _run(test)


def test_errors_keep_their_hint_and_exit_code(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            answer = await _ask(tmp_path / "s", b'{"op":"explain","subject":"192.0.2.7"}\n')
            assert answer == {
                "reply": "failed",
                "message": "we will not",
                "hint": "do not",
                "exit_code": 1,
            }

    _run(test)


def test_malformed_and_too_long_requests_are_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            for bad in (b"\n", b"\xff\n", b"GET / HTTP/1.0\r\n", b"{" * (MAX_REQUEST + 10)):
                answer = await _ask(tmp_path / "s", bad)
                assert answer["reply"] == "failed"
                assert answer["exit_code"] == 2
            assert "longer than" in answer["message"]  # the last
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)


def test_an_unexpected_error_is_logged_and_the_daemon_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            answer = await _ask(tmp_path / "s", b'{"op":"reload"}\n')
            assert "internal error" in answer["message"]
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)
    assert "ZeroDivisionError" in caplog.text


def test_changes_are_logged_with_who_asked_and_reads_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            await _ask(tmp_path / "s", PING)
            await _ask(tmp_path / "s", b'{"op":"ban","subject":"192.0.2.7","why":"a\\"b"}\n')

    caplog.set_level(logging.DEBUG, logger=server_module.__name__)
    _run(test)
    who = f"uid {os.getuid()}, pid {os.getpid()} asks: "
    asked = [r.getMessage() for r in caplog.records if "asks" in r.getMessage()]
    assert asked == [who + r'{"op":"ban","subject":"192.0.2.7","why":"a\"b"}']
    # The line at notice is that of the audit record, with the outcome.
    assert all(r.levelno == logging.DEBUG for r in caplog.records if "asks" in r.getMessage())


def test_silent_and_vanishing_clients_do_not_disturb_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s", time_limit=0.2):
            silent_reader, silent = await asyncio.open_unix_connection(tmp_path / "s")
            silent.write(b'{"op":')
            _, gone = await asyncio.open_unix_connection(tmp_path / "s")
            gone.close()
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"
            assert await silent_reader.read() == b""  # hung up on, within the time limit
            silent.close()

    _run(test)


def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s", time_limit=0.2):
            with socket.socket(socket.AF_UNIX) as deaf:
                deaf.connect(str(tmp_path / "s"))
                deaf.sendall(b'{"op":"unban","subject":"192.0.2.7"}\n')
                loop = asyncio.get_running_loop()
                hung_up = loop.create_future()
                poller = select.epoll()
                poller.register(deaf.fileno(), 0)  # EPOLLHUP alone
                loop.add_reader(poller.fileno(), hung_up.set_result, None)
                await hung_up
                loop.remove_reader(poller.fileno())
                poller.close()
            big = await _ask(tmp_path / "s", b'{"op":"unban","subject":"192.0.2.7"}\n')
            assert len(big["result"]["message"]) == 5_000_000

    _run(test)


def test_too_many_connections_are_refused_with_the_reason(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            most = CONNECTIONS if os.geteuid() == 0 else PER_USER
            clients = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(most)]
            assert (await _ask(tmp_path / "s", PING))["message"] == "the daemon is busy"
            for reader, writer in clients:
                writer.write(PING)
                assert json.loads(await reader.readline())["reply"] == "ok"
                writer.close()
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)


def test_a_stop_lets_a_request_under_way_end(tmp_path: Path) -> None:
    async def test() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_request: Request, _peer: Peer) -> Result:
            begun.set()
            await go_on.wait()
            return Done("finished")

        async with _running(tmp_path / "s", handler=slow) as server:
            answer = asyncio.create_task(_ask(tmp_path / "s", PING))
            await begun.wait()
            stopping = asyncio.create_task(server.stop())
            go_on.set()
            await stopping
            assert (await answer)["result"]["message"] == "finished"
            assert not (tmp_path / "s").exists()

    _run(test)


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        unforeseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unforeseen.append(context)
        )
        async with _running(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            await _ask(tmp_path / "s", PING)
        assert await reader.read() == b""
        writer.close()
        assert unforeseen == []

    _run(test)


def test_a_long_reply_is_no_surprise(tmp_path: Path) -> None:
    """Longer than what the socket takes at once, by less than what asyncio keeps back."""
    lengths = iter(range(150_000, 300_000, 10_000))

    async def long(_request: Request, _peer: Peer) -> Result:
        return Done("x" * next(lengths))

    async def test() -> None:
        unforeseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unforeseen.append(context)
        )
        async with _running(tmp_path / "s", handler=long):
            for length in range(150_000, 300_000, 10_000):
                assert len((await _ask(tmp_path / "s", PING))["result"]["message"]) == length
        assert unforeseen == []

    _run(test)


def test_only_root_may_open_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "made" / "s"):
            mode = (tmp_path / "made" / "s").stat().st_mode
            assert stat.S_IMODE(mode) == 0o600

    umask = os.umask(0)
    try:
        _run(test)
    finally:
        os.umask(umask)


@pytest.mark.root
def test_a_group_may_open_the_socket_too(tmp_path: Path) -> None:
    group = grp.getgrall()[-1]

    async def test() -> None:
        async with _running(tmp_path / "s", group=group.gr_name):
            status = (tmp_path / "s").stat()
            assert stat.S_IMODE(status.st_mode) == 0o660
            assert status.st_gid == group.gr_gid

    _run(test)


def test_an_unknown_group_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", "no-such-group", _handler)
    with pytest.raises(ConfigError, match="no-such-group"):
        asyncio.run(server.start())


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))

    async def test() -> None:
        async with _running(tmp_path / "s"):
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)


def test_a_living_daemon_is_not_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with _running(tmp_path / "s"):
            with pytest.raises(RefusedError, match="another daemon"):
                await Server(tmp_path / "s", "", _handler).start()
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)


def test_a_daemon_that_does_not_listen_yet_is_not_replaced(tmp_path: Path) -> None:
    first = Server(tmp_path / "s", "", _handler)
    with first._bind():
        assert client.alive(tmp_path / "s")
        with pytest.raises(RefusedError, match="another daemon"):
            asyncio.run(Server(tmp_path / "s", "", _handler).start())
        assert (tmp_path / "s").is_socket()
    asyncio.run(first.stop())
    assert list(tmp_path.iterdir()) == []
    assert not client.alive(tmp_path / "s")


def test_a_start_that_fails_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    for _ in range(2):
        with pytest.raises(ConfigError, match="not a socket"):
            asyncio.run(Server(tmp_path / "s", "", _handler).start())
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_daemon_with_a_full_backlog_is_not_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(str(tmp_path / "s"))
        hung.listen(0)
        waiting.connect(str(tmp_path / "s"))
        with pytest.raises(RefusedError, match="another daemon"):
            asyncio.run(Server(tmp_path / "s", "", _handler).start())


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        asyncio.run(Server(tmp_path / "s", "", _handler).start())
    assert (tmp_path / "s").read_text() == "precious"


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        first = Server(tmp_path / "s", "", _handler)
        await first.start()
        (tmp_path / "s").rename(tmp_path / "moved")
        beside(tmp_path / "s").unlink()
        async with _running(tmp_path / "s"):
            await first.stop()
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"

    _run(test)


def test_a_path_that_is_too_long_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        asyncio.run(Server(tmp_path / ("s" * 120), "", _handler).start())


@pytest.mark.root
def test_a_directory_that_is_closed_to_us_is_not_permitted(tmp_path: Path) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError, match="cannot make") as caught:
            asyncio.run(Server(tmp_path / "s", "", _handler).start())
    finally:
        os.seteuid(0)
    assert "root" in caught.value.hint


def test_stopping_what_never_started_is_nothing(tmp_path: Path) -> None:
    asyncio.run(Server(tmp_path / "s", "", _handler).stop())


def _as(uid: int, groups: list[int], path: Path) -> str:
    """Ask as another user, in a process of its own."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from throttled.control import client, requests\n"
        "from throttled.errors import ThrottledError\n"
        f"os.setgroups({groups}); os.setgid(60001); os.setuid({uid})\n"
        "try: print(client.request(Path(sys.argv[1]), requests.Ping()).message)\n"
        "except ThrottledError as error: print(error.message)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.root
def test_members_of_the_group_may_and_others_not_even_through_an_open_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group = grp.getgrall()[-1]

    async def test(path: Path) -> None:
        async with _running(path, group=group.gr_name):
            await asyncio.to_thread(path.chmod, 0o666)  # somebody's mistake
            member = await asyncio.to_thread(_as, 60_001, [60_002, group.gr_gid], path)
            stranger = await asyncio.to_thread(_as, 60_001, [60_002], path)
        assert member.split()[1:] == ["60001", "60001"]
        assert stranger == "not permitted to talk to the daemon\n"

    with tempfile.TemporaryDirectory() as home:  # pytest's own is closed to others
        Path(home).chmod(0o755)
        _run(lambda: test(Path(home) / "s"))
    assert "uid 60001" in caplog.text


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    class Slow(Admission):
        def delay(self, uid: int, now: float) -> float:
            assert (uid, now > 0) == (os.getuid(), True)
            return 0.2

    async def test() -> None:
        async with _running(tmp_path / "s", admission=Slow()):
            begun = time.monotonic()
            assert (await _ask(tmp_path / "s", PING))["reply"] == "ok"
            assert time.monotonic() - begun >= 0.2

    _run(test)
