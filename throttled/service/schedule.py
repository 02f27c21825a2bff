"""What is done again and again: each job and how often. Owns when each was done last.

A job that raises stops no other: it is counted and logged (`throttled.skipped`), and done again.
"""

import asyncio
import logging
from collections.abc import Callable

from msgspec import Struct

from throttled.clock import Moment
from throttled.errors import ThrottledError
from throttled.skipped import Skipped

log = logging.getLogger(__name__)

#: Seconds between two checks at what is due.
_TICK = 1.0

Job = Callable[[Moment], object]


class _Periodic(Struct):
    job: Job
    seconds: float
    done: float  # boot clock


class Schedule:
    """Jobs, done one after the other in the order in which they were added."""

    def __init__(self, skipped: Skipped, clock: Callable[[], Moment]) -> None:
        """Do nothing yet.

        Args:
            skipped: where jobs that raise are counted.
            clock: both clocks.
        """
        self._skipped = skipped
        self._clock = clock
        self._jobs: list[_Periodic] = []

    def every(self, seconds: float, job: Job) -> None:
        """Do a job from now on.

        Args:
            seconds: between two times; 0 = at every check, once a second.
            job: what; it must not take long.
        """
        self._jobs.append(_Periodic(job, seconds, self._clock().boot))

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            await asyncio.sleep(_TICK)
            self.look()

    def look(self) -> None:
        """Do what is due now."""
        for periodic in self._jobs:
            moment = self._clock()
            if moment.boot - periodic.done < periodic.seconds:
                continue
            periodic.done = moment.boot
            try:
                periodic.job(moment)
            except ThrottledError as error:
                log.error("%s. %s", error.message, error.hint)
            except Exception as error:  # noqa: BLE001 - the others continue
                self._skipped.add("step", error, getattr(periodic.job, "__name__", "job"))
