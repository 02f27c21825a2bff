"""Watches this host: addresses, routes, its name, and the files of Postfix's configuration.

Owns the two watches, the name, and the one task that asks the host again. Where the kernel allows
no watch, the schedule's check once a minute finds what changed.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack

from throttled.errors import HostError
from throttled.facts import Facts
from throttled.host.addresses import AddressWatch
from throttled.host.files import FileWatch
from throttled.service.configuration import LiveConfiguration

log = logging.getLogger("throttled")

#: Addresses and routes change in bursts.
_SETTLED = 0.2


class HostWatch:
    """Subscribes to changes, and asks for the facts again."""

    def __init__(self, live: LiveConfiguration, apply: Callable[[Facts], None]) -> None:
        """Watch from now on.

        Args:
            live: gathers facts.
            apply: is called with the facts after changes, whether they differ or not.
        """
        self._live = live
        self._apply = apply
        self._files: FileWatch | None = None
        self._changed = False  # something, since the host was asked last
        self._name = os.uname().nodename
        self._task: asyncio.Task[None] | None = None
        self._closing = ExitStack()
        for kind in (AddressWatch, FileWatch):
            try:
                watch = kind()
            except HostError as error:
                log.warning("%s; checked once a minute only", error.message)
                continue
            loop = asyncio.get_running_loop()
            self._closing.callback(watch.close)
            loop.add_reader(watch.fileno(), self._heard, watch)
            self._closing.callback(loop.remove_reader, watch.fileno())
            if isinstance(watch, FileWatch):
                self._files = watch
        self.follow()

    def follow(self) -> None:
        """Watch the files that the facts are of now."""
        if self._files is not None:
            self._files.follow(self._live.facts.files)

    def tick(self) -> None:
        """Ask the host again when it has another name."""
        if (name := os.uname().nodename) != self._name:
            self._name = name
            self.ask_soon()

    def ask_soon(self) -> None:
        """Ask the host again, once for a burst of changes."""
        self._changed = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ask())

    def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
        self._closing.close()

    def _heard(self, watch: AddressWatch | FileWatch) -> None:
        if watch.drain():
            self.ask_soon()

    async def _ask(self) -> None:
        """Ask until nothing changed meanwhile."""
        while self._changed:
            await asyncio.sleep(_SETTLED)
            self._changed = False
            self._apply(await asyncio.to_thread(self._live.gather))
