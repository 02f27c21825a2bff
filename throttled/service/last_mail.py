"""When the last digest was mailed, retained in the store.

A daemon that is restarted again and again mails no more often than one that runs. Owns what of it
is in the store.
"""

import logging

from throttled.clock import Moment
from throttled.errors import StoreError
from throttled.notify.hook import Hook
from throttled.store.store import Store

log = logging.getLogger(__name__)

_NAME = "mailed"


class LastMail:
    """When the last digest of a hook was mailed."""

    def __init__(self, hook: Hook) -> None:
        """Know of no mail yet."""
        self._hook = hook
        self._stored = 0.0

    def load(self, store: Store, now: Moment) -> None:
        """Let the first digest wait until the last one is old enough."""
        try:
            self._stored = float(store.known.get(_NAME) or 0.0)
        except StoreError as error:
            log.error("%s; a mail may be sent too early. %s", error.message, error.hint)
        except ValueError:  # written by another release
            self._stored = 0.0
        self._hook.continue_after(self._stored, now.wall)

    def tick(self, store: Store, now: Moment) -> None:
        """Retain the time of a mail that was sent since the last call."""
        mailed = self._hook.mailed
        if mailed == self._stored:
            return
        try:
            store.known.put(_NAME, repr(mailed).encode(), now.wall)
        except StoreError as error:
            log.error("%s; when it was mailed is not recorded. %s", error.message, error.hint)
        self._stored = mailed
