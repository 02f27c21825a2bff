"""A daemon in this process, with a kernel in memory. Owns nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from lab.mail.maincf import configure
from lab.network import netns
from throttled.control import client, requests
from throttled.control.requests import Request
from throttled.control.results import Done, ListResult
from throttled.enforce import registry
from throttled.enforce.admission import memory
from throttled.enforce.admission import registry as admission
from throttled.enforce.dryrun import DryRun
from throttled.enforce.sessions import Endings
from throttled.service import runtime, schedule
from throttled.service.configuration import Options
from throttled.service.daemon import Daemon
from throttled.service.runtime import Runtime

Reply = TypeVar("Reply")


A = "198.51.100.7"


B = "198.51.100.8"


BOUND = netns.DEADMAN


_END = Endings.end


class Memory(DryRun):
    """Stands for nftables: no test here may touch the kernel of the machine it runs on."""

    name = "nftables"
    enforces = True


class Lab:
    """A configuration, a log and a running daemon.

    Args:
        path: of a directory of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "mail.log"
        self.log.touch()
        self.metrics = path / "m.sock"
        self.config = path / "throttled.toml"
        self.configure()
        self.daemon: Daemon

    @property
    def runtime(self) -> Runtime:
        """The parts of the daemon that runs."""
        return self.daemon.runtime

    def configure(self, more: str = "") -> None:
        # Before the tables: top-level keys may be in `more`. A queue directory of its own: other
        # tests' daemons listen in this machine's.
        queue = f"queue_directory = {self.path}"
        postfix = configure(self.path / "postfix", queue, "smtp inet n - n - - smtpd")
        self.config.write_text(
            f"{more}\n"
            f'[log]\nfiles = ["{self.log}"]\n'
            f'[store]\npath = "{self.path}/t.db"\n'
            f'[control]\nsocket = "{self.path}/c.sock"\n'
            f'[metrics]\nlisten = "{self.metrics}"\n'
            '[firewall]\nbackend = "nftables"\n'
            "ports = { mx = [25], submission = [587] }\n"
            f'[postfix]\nconfig_directories = ["{postfix}"]\nhosts = ["mx"]\n'
        )

    def write(self, *bodies: str, process: str = "postfix/smtpd") -> None:
        stamp = time.strftime("%b %e %H:%M:%S")
        with self.log.open("a") as file:
            for number, body in enumerate(bodies):
                file.write(f"{stamp} mx {process}[{number + 1}]: {body}\n")

    def garbage(self, address: str, count: int = 11) -> None:
        self.write(*[f"warning: non-SMTP command from unknown[{address}]: GET /"] * count)

    async def ask(self, request: Request, reply: type[Reply]) -> Reply:
        socket = self.path / "c.sock"
        result = await asyncio.to_thread(client.request, socket, request)
        assert isinstance(result, reply)
        return result

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something to become true, with a bound."""
        async with asyncio.timeout(BOUND):
            while not await condition():  # noqa: ASYNC110 - the daemon has no event for us
                await asyncio.sleep(0.005)

    async def listed(self, count: int) -> list[tuple[str, str, str]]:
        rows: list[tuple[str, str, str]] = []

        async def there() -> bool:
            found = (await self.ask(requests.List(), ListResult)).rows
            rows[:] = [(row.subject, row.scope, row.action) for row in found]
            return len(rows) == count

        await self.until(there)
        return sorted(rows)


def live(
    path: Path,
    story: Callable[[Lab], Awaitable[None]],
    lab: Lab | None = None,
    tick: float = 0.01,
) -> Lab:
    """Run a daemon and a story against it, then stop it.

    Args:
        path: of a directory of its own.
        story: what is done meanwhile.
        lab: one that was made before.
        tick: seconds between two times of the periodic work: one, but no test waits for it.
    """
    lab = lab or Lab(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "_TICK", tick)
        patch.setattr(runtime, "_REOPEN", 0.02)
        patch.setattr(registry, "Nftables", Memory)
        patch.setattr(admission, "MEANS", {"memory": lambda _lease: memory.Memory()})
        patch.setattr("throttled.core.leftovers.displace", lambda _name: ([], []))
        if Endings.end is _END:  # a test may have replaced it
            patch.setattr(Endings, "end", lambda *_args: None)
        asyncio.run(_both(lab, story))
    return lab


async def _both(lab: Lab, story: Callable[[Lab], Awaitable[None]]) -> None:
    lab.daemon = Daemon(Options(str(lab.config)))
    running = asyncio.create_task(lab.daemon.run())

    async def ready() -> bool:
        if running.done():
            running.result()
        return (lab.path / "c.sock").exists()

    await lab.until(ready)
    await lab.ask(requests.Ping(), Done)
    try:
        await story(lab)
    finally:
        lab.daemon.stop()
        await running
