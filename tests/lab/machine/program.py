"""A program that is started, ended and started again. Owns its process; kills it when asked to."""

import signal
import subprocess
from typing import Any

import psutil


class Program:
    """A process that runs or does not."""

    _process: subprocess.Popen[Any] | None = None

    @property
    def pid(self) -> int:
        """The process that runs.

        Raises:
            RuntimeError: none does.
        """
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} does not run")
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def ended(self) -> bool:
        """Return whether it is not running: not started, or ended by itself."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it without a chance to clean up; idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cpu(self) -> float:
        """Return the seconds of CPU it has used, its children included."""
        return sum(psutil.Process(self.pid).cpu_times()[:4])

    def memory(self) -> int:
        """Return its resident bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)
