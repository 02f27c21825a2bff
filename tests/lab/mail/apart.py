"""Modules of the lab that run in a namespace, each in a process that prints what became of it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from lab.network.netns import DEADMAN, Namespace

_TESTS = str(Path(__file__).parents[2])

Result = TypeVar("Result")


class Apart(Generic[Result]):
    """A run of a module in another process. Owns it."""

    def __init__(
        self, where: Namespace, module: str, *argv: object, result: type[Result], seconds: float
    ) -> None:
        """Start it.

        Args:
            where: it runs there.
            module: below `lab.mail`; prints a result as JSON, also when it is terminated.
            argv: its arguments.
            result: the type of that.
            seconds: how long it takes.
        """
        self._process = where.popen(
            [sys.executable, "-m", f"lab.mail.{module}", *map(str, argv)],
            env={"PYTHONPATH": _TESTS},
            stdout=subprocess.PIPE,
        )
        self._result = result
        self._limit = seconds + DEADMAN

    def report(self) -> Result:
        """Wait for the end and return what became of it.

        Raises:
            RuntimeError: it failed; what it printed is on standard error.
        """
        return self._read(self._limit)

    def stop(self, patience: float = 0.0) -> Result:
        """Let it end, after so many seconds, and return what became of it."""
        try:  # after hours there is more to read than a pipe holds
            return self._read(patience)
        except subprocess.TimeoutExpired:
            self.terminate()
            return self.report()

    def terminate(self) -> None:
        """Let it end, and print what became of it."""
        self._process.terminate()

    def end(self) -> None:
        """End it, whatever it does. Idempotent."""
        self._process.kill()
        self._process.communicate()

    def _read(self, seconds: float) -> Result:
        out, _ = self._process.communicate(timeout=seconds)
        if not out:  # one that is about to end anyway may die of the signal
            raise RuntimeError(f"it failed: {self._process.args!r}")
        return msgspec.json.decode(out, type=self._result)


async def print_result(run: Coroutine[Any, Any, object], stop: asyncio.Event) -> None:
    """Run it, then print what became of it; SIGTERM sets `stop`, also while that is printed."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(msgspec.json.encode(await run).decode(), flush=True)
