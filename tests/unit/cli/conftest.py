"""Runs the commands in this process, against a real control server in a thread."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from lab.machine.zone import zone  # noqa: F401 - a fixture
from throttled.cli.main import main
from throttled.control.requests import Request
from throttled.control.results import Result
from throttled.control.server import Peer, Server
from throttled.enforce import registry
from throttled.enforce.dryrun import DryRun

Answer = Result | BaseException


class Ended(Struct):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the one JSON object that was printed."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Cli = Callable[..., Ended]


class Daemon:
    """A control server whose answers the test writes, and which remembers what was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Answer | None = None
        self.asked: list[Request] = []
        self._loop = asyncio.new_event_loop()
        self._server = Server(path, "", self._handle)
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _handle(self, request: Request, _peer: Peer) -> Result:
        self.asked.append(request)
        assert self.answer is not None
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    async def _end(self) -> None:
        await self._settle()  # asyncio leaks whom it accepts just before its server closes
        await self._server.stop()
        await self._settle()

    async def _settle(self) -> None:
        """Wait until clients that connected and left at once were accepted, served and released."""
        for _ in range(10):
            await asyncio.sleep(0)
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Memory(DryRun):
    """Stands for nftables where no test may touch the kernel; tests/system has the real one."""

    name = "nftables"
    enforces = True


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "Nftables", Memory)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration in which everything is below the test's own directory."""
    path = tmp_path / "throttled.toml"
    path.write_text(
        f'[store]\npath = "{tmp_path}/throttled.db"\n'
        f'[control]\nsocket = "{tmp_path}/control.sock"\n'
        '[firewall]\nbackend = "nftables"\n'
    )
    return path


@pytest.fixture
def cli(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Run `throttled --config FILE ARGUMENTS…` in this process, without the file unless `named`."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, named: bool = True) -> Ended:
        config = ["--config", str(config_file)] if named else []
        monkeypatch.setattr(sys, "argv", ["throttled", *config, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out.decode(), err.decode())

    return run


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on the socket that the configuration names."""
    running = Daemon(tmp_path / "control.sock")
    running.start()
    yield running
    running.stop()
