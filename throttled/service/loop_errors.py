"""Errors that nothing awaited: logged, each kind once a minute, and the loop continues.

Owns their count, and when each was logged last.
"""

import asyncio
import errno
import logging
from typing import Any

from throttled.clock import now
from throttled.errors import ThrottledError
from throttled.service.repeats import Repeats

log = logging.getLogger("throttled")

#: What a system call that makes a descriptor fails with where there are too many.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class LoopErrors:
    """An exception handler of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._repeats = Repeats()

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count and log what was raised; see `asyncio.loop.call_exception_handler`."""
        error = context.get("exception")
        if isinstance(error, ThrottledError):
            log.error("%s. %s", error.message, error.hint)
        elif isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context:
            # asyncio accepts again after a second, and until then reports a hundred times.
            times = self._repeats.due("accept", now().boot)
            if not times:
                return
            what = "connections wait to be accepted: %s (%d times); see LimitNOFILE"
            log.error(what, error.strerror, times)
        else:
            what = str(context.get("message"))
            if times := self._repeats.due(f"{what}: {error!r}", now().boot):
                log.error("unexpected error (%d times): %s", times, what, exc_info=error)
        self.count += 1
