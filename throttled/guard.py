"""Keeps the kernel as it should be: sets the table up, hears of foreign hands, puts things right.

Owns the watch on the table and the one task that puts things right. Whatever happens while that
task is at work is not lost: it begins anew.
"""

import asyncio
import logging
from collections.abc import Callable

from throttled.enforce.backend import Backend, Watch
from throttled.errors import BackendError, ThrottledError
from throttled.model import Ruleset
from throttled.pipeline import Moment, Pipeline
from throttled.restore import adopt, restore
from throttled.system import now

log = logging.getLogger("throttled")

#: A firewall is reloaded in several steps.
_SETTLED = 0.2
#: What the kernel holds is compared element by element at a start, if it is not more.
_ADOPT = 50_000


class Guard:
    """The kernel's side of the daemon."""

    def __init__(
        self, backend: Backend, pipeline: Pipeline, ruleset: Callable[[], Ruleset]
    ) -> None:
        """Touch nothing yet.

        Args:
            backend: the kernel.
            pipeline: whose store says what should be in force, and which takes note of failures.
            ruleset: tells the static rules that belong to the configuration and the host, now.
        """
        self.backend = backend
        self._pipeline = pipeline
        self._ruleset = ruleset
        self._watch: Watch | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def start(self) -> None:
        """Protect: at once with the rules and what the kernel still holds, then with all of it.

        Raises:
            BackendError: the kernel refused.
        """
        adopting = self.repair()
        self._listen()
        self._task = asyncio.get_running_loop().create_task(self._begin(empty=not adopting))

    def repair(self) -> bool:
        """Put the backend's table in place; tell whether there was one.

        Raises:
            BackendError: the kernel refused.
        """
        return self.backend.setup(self._ruleset())

    def reconfigure(self) -> None:
        """Put changed rules in place; a kernel that refuses is told, and asked again."""
        try:
            self.repair()
        except BackendError as error:
            self._refused(error)

    def tick(self, moment: Moment) -> None:
        """Try again what the kernel or the store refused; clear up in the kernel."""
        if self._pipeline.backend_fault is None:
            try:
                self.backend.collect()
            except BackendError as error:
                self._refused(error)
        broken = self._pipeline.backend_fault
        self._pipeline.retry(self.repair, moment)
        if broken and self._pipeline.backend_fault is None:
            self._put_right()

    def close(self) -> None:
        """Stop looking; what is in force stays."""
        if self._task is not None:
            self._task.cancel()
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()

    def _listen(self) -> None:
        """Hear when somebody else changes our table."""
        try:
            self._watch = self.backend.watch()
        except BackendError as error:
            log.warning("%s; changes will go unnoticed", error.message)
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._heard)

    def _heard(self) -> None:
        if self._watch is not None and self._watch.drain():
            log.warning("somebody else changed what is ours in the firewall; putting it right")
            self._put_right()

    def _put_right(self) -> None:
        """Compare all, soon; and once more if anything happens meanwhile."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _begin(self, *, empty: bool) -> None:
        if await self._restore(empty=empty) and not empty:
            await self._adopt()
        await self._work()

    async def _work(self) -> None:
        while self._again:
            await asyncio.sleep(_SETTLED)
            self._again = False
            try:
                self.repair()
            except BackendError as error:
                self._refused(error)
                return
            await self._restore(empty=False)

    async def _restore(self, *, empty: bool) -> bool:
        """Put what is stored and missing into the kernel; tell whether that came to its end."""
        try:
            count = await restore(self._pipeline, self.backend, now, empty=empty)
        except ThrottledError as error:
            self._refused(error)
            return False
        if count:
            log.info("%d elements put into the kernel again", count)
        return True

    async def _adopt(self) -> None:
        """Take over what the kernel holds beyond the store."""
        try:
            # The kernel walks a set anew for each piece of a dump: a million take a minute.
            if sum(self._pipeline.store.counts(now().wall).values()) <= _ADOPT:
                await adopt(self._pipeline, self.backend, now)
        except ThrottledError as error:
            self._refused(error)

    def _refused(self, error: ThrottledError) -> None:
        log.error("%s. %s", error.message, error.hint)
        if isinstance(error, BackendError):
            self._pipeline.backend_fault = error  # the next tick repairs, and restores again
