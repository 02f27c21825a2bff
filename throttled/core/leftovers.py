"""Removes what other backends than the one in use left in the kernel of this host.

With the dry run (mode observe) these are all elements: those of an earlier enforcing daemon must
not block clients that this daemon cannot unban. What cannot be removed is reported as a finding and
tried again every minute.

Owns the finding of the latest try.
"""

import asyncio
import logging
import os
from math import inf

from throttled.enforce.backend import Backend
from throttled.enforce.registry import displace
from throttled.model import Finding

log = logging.getLogger("throttled")

_AGAIN = 60.0


class Leftovers:
    """Entries of other backends.

    Args:
        backend: the one in use, whose entries stay.
    """

    def __init__(self, backend: Backend) -> None:
        self.finding: Finding | None = None
        self._backend = backend
        self._tried = inf  # boot clock

    def due(self, at: float) -> bool:
        """Return whether it is time to try again.

        Args:
            at: now, on the boot clock.
        """
        return self.finding is not None and at - self._tried >= _AGAIN

    async def remove(self, at: float) -> None:
        """Remove them, in a thread: it may take seconds.

        Args:
            at: now, on the boot clock.
        """
        self._tried = at
        removed, errors = await asyncio.to_thread(displace, self._backend.name)
        for name in removed:
            log.info("removed entries left by the %s backend", name)
        before, self.finding = self.finding, None
        if not errors:
            return
        what = f"entries left by another backend remain in the kernel: {errors[0].message}"
        hint = "tried again every minute; or stop the daemon and run: throttled purge"
        if os.geteuid() != 0 and not self._backend.enforces:
            # Whoever observes without rights cannot even see whether there are any.
            what = f"cannot look for entries of an enforcing daemon: {errors[0].message}"
            log.warning("%s; if one ran here before, run as root: throttled purge", what)
            return
        self.finding = Finding("fault", what, hint, "firewall-left")
        if before is None:
            log.error("%s; %s", what, hint)
