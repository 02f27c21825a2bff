"""Tasks of the event loop that belong together. Owns them, until each is done."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Starts tasks, and cancels all of them at the end."""

    def __init__(self) -> None:
        self._all: set[asyncio.Task[Any]] = set()
        self._single: dict[Callable[[], Coroutine[Any, Any, Any]], asyncio.Task[Any]] = {}

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._all.add(task)
        task.add_done_callback(self._all.discard)
        return task

    def spawn_single(self, job: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a job, unless it still runs."""
        running = self._single.get(job)
        if running is None or running.done():
            self._single[job] = self.spawn(job())

    async def cancel(self) -> None:
        """Cancel all of them, and wait until they ended."""
        tasks = list(self._all)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
