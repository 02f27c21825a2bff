"""What follows a decision: alerts, notifications, the end of sessions.

Owns the sessions that are to end once the server has replied.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from throttled.address import is_named
from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.enforce.sessions import AGAIN, Endings
from throttled.errors import StoreError
from throttled.model import SCOPES, Decision, Report, Scope
from throttled.notify import line

log = logging.getLogger("throttled")

#: Reports of one batch that are logged one by one.
_LOGGED = 20

Listener = Callable[[Sequence[Decision]], None]


class Announcer:
    """Passes decisions that are applied to its listeners."""

    def __init__(
        self, single: Sequence[Listener], bulk: Sequence[Listener], always: Sequence[Listener]
    ) -> None:
        """Store the listeners.

        Args:
            single: called with decisions on single clients.
            bulk: called with decisions of `import` and `unban --all`.
            always: called with all decisions.
        """
        self._single, self._bulk = single, bulk
        self._always = tuple(always)
        self._first: tuple[Listener, ...] = ()

    def first(self, listener: Listener) -> None:
        """Call a listener with all decisions from now on, before the others."""
        self._first = (*self._first, listener)

    def __call__(self, decisions: Sequence[Decision], *, notice: bool = True) -> None:
        """Call the listeners; `notice`: each decision is worth a notification."""
        some = self._single if notice else self._bulk
        for listener in (*self._first, *some, *self._always):
            listener(decisions)


def alert(decisions: Sequence[Decision]) -> None:
    """Write alerts to the journal, each once."""
    for text in {decision.alert for decision in decisions if decision.alert}:
        log.warning("%s", text)


def report_behind(decisions: Sequence[Decision]) -> None:
    """Log what would be done about clients behind a proxy; nothing is."""
    for decision in decisions[:_LOGGED]:
        log.warning("%s", line.behind(decision))
    if len(decisions) > _LOGGED:
        log.warning("and %d more clients behind a proxy at once", len(decisions) - _LOGGED)


def report(reports: Sequence[Report]) -> None:
    """Write senders that crossed a limit to the journal."""
    for one in reports[:_LOGGED]:
        log.warning("%s", line.report(one))
    if len(reports) > _LOGGED:
        log.warning("and %d more reports at once", len(reports) - _LOGGED)


class SessionEnder:
    """Ends the sessions of clients that were banned, or whose session earned them a throttle."""

    def __init__(
        self, pipeline: Pipeline, ports: Callable[[], Mapping[Scope, tuple[int, ...]]]
    ) -> None:
        """End none yet.

        Args:
            pipeline: knows who is protected or exempt.
            ports: of this host, by scope.
        """
        self._pipeline = pipeline
        self._ports = ports
        self._endings = Endings()
        self._waiting: list[Decision] = []  # whose sessions are to end
        self._task: asyncio.Task[None] | None = None

    def __call__(self, decisions: Sequence[Decision]) -> None:
        """End the sessions that decisions are about; in those it owes a reply, Postfix gives it.

        Of decisions that follow within `AGAIN` seconds, together after these: in a flood listing
        the kernel's sockets for each batch costs milliseconds.
        """
        self._waiting += (d for d in decisions if not is_named(d.subject))
        self._waiting += self._pipeline.further(now())
        if self._waiting and (self._task is None or self._task.done()):
            self._end()
            self._task = asyncio.get_running_loop().create_task(self._end_others())

    def close(self) -> None:
        """Leave what is pending."""
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        banned = [(d.subject, d.scope) for d in waiting if d.action == "ban"]
        self._endings.end(waiting, self._ports(), now().boot, partial(self._spared, banned))

    async def _end_others(self) -> None:
        """End the sessions of later decisions, and those that were owed a reply."""
        await asyncio.sleep(AGAIN)
        while self._waiting or self._endings.pending:
            self._end()
            await asyncio.sleep(AGAIN)

    def _spared(self, banned: Sequence[tuple[str, Scope]], client: str) -> bool:
        """Return whether the ban of a network does not apply to a client inside it."""
        if self._pipeline.ladder.protection.reason(client):
            return True
        keys = [(client, scope) for scope in SCOPES if (client, scope) not in banned]
        try:
            pasts = self._pipeline.recorder.store.past(keys, now().wall)
        except StoreError:  # reported where it is recorded
            return False
        return any(past.action == "exempt" for past in pasts.values())
