"""Answers Postfix's policy requests.

smtpd(8) asks before each message's content, and, if main.cf says so, about each client and each
recipient. A message of an account or an inside host becomes an event that is counted like a log
line; what mailboxes receive is counted as the log says, not here. The backend for policy answers
returns the answer, from the entries applied before, so no request waits for a decision. Where no
entry is active, while observing, and for what is no request, the answer is DUNNO: Postfix goes on
as if it had not asked. A request can only slow the sender, or the recipient, that it names.

Owns the sockets (`throttled.sources.policy_sockets`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from time import monotonic
from typing import Literal

from throttled import subjects
from throttled.address import LOOPBACK
from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.enforce.answers import PASS, UNRECORDED, Answer
from throttled.enforce.cover import Cover
from throttled.enforce.dispatch import Dispatch
from throttled.facts import Facts, Spool
from throttled.host.on_hold import Held, OnHold
from throttled.model import Decision, Finding, Report, Scope
from throttled.parse.policy_request import Request, event
from throttled.sources.policy_sockets import PolicySockets

log = logging.getLogger(__name__)

#: Sessions of this host that are remembered.
_OWN = 1000
#: Seconds without a request after which Postfix may have ceased to ask.
_SILENT = 3600.0
#: Seconds between warnings that messages are deferred instead: one sender may be at its cap.
_WARN = 60.0
#: Seconds from a request to the decisions that follow; those of the time between come together.
_TOGETHER = 0.005

#: What a session is asked about, and whose limits act then.
About = Literal["data", "recipient"]


class PolicyRequests:
    """The sockets, and what is asked there."""

    def __init__(
        self,
        pipeline: Pipeline,
        answers: Dispatch | None,
        report: Callable[[Sequence[Decision]], None],
        senders: Callable[[Sequence[Report]], None],
        connected: Callable[[Collection[About]], None] = lambda _: None,
    ) -> None:
        """Listen nowhere yet.

        Args:
            pipeline: where events go.
            answers: says what is answered; None: nothing is enforced.
            report: called with the decisions that requests led to.
            senders: called with the senders that crossed a limit.
            connected: called with what Postfix asks about, when it begins to, and when it did
                not for `_SILENT`.
        """
        self.sockets = PolicySockets(self._answer)
        self._pipeline = pipeline
        self._answers = answers
        self._report = report
        self._senders = senders
        self._connected = connected
        #: Where messages that are put on hold are recorded; None: nowhere.
        self.on_hold: OnHold | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._warned = -_WARN  # monotonic clock, that a message could not be recorded
        self.hold = 3600.0  # seconds until mail is released
        self._asked: dict[About, float] = {}  # monotonic clock, of the latest request
        self._settling: asyncio.TimerHandle | None = None
        #: Sessions of this host that Postfix asked about: `throttled postfix connect` makes some.
        self._own: deque[tuple[str, int, About]] = deque(maxlen=_OWN)
        self._facts = Facts()
        self._inside = self._apart = Cover()
        self._ports: dict[int, Scope] = {}

    def follow(self, facts: Facts) -> None:
        """Listen in these queue directories, and in no others.

        What Postfix's configuration no longer asks about is not asked: no need to wait for silence.
        """
        ceased = self._facts.asked - facts.asked
        self._facts = facts
        self._cease(about for about in self._asked if about in ceased)
        self._inside = Cover(facts.mynetworks)
        self._apart = Cover((*LOOPBACK, *facts.own))
        self._ports = {service.port: service.scope for service in facts.services}
        self.sockets.follow(facts.spools)

    def tick(self, _moment: Moment | None = None) -> None:
        """Listen where that could not be so far, or where the socket was removed."""
        since = monotonic() - _SILENT
        self._cease(about for about, at in self._asked.items() if at < since)
        self.sockets.tick()
        if self.on_hold is not None and (self._syncing is None or self._syncing.done()):
            loop = asyncio.get_running_loop()
            self._syncing = loop.run_in_executor(None, self._sync, self.on_hold)

    def _cease(self, about: Iterable[About]) -> None:
        """Note that Postfix asks no more."""
        ceased = list(about)
        for each in ceased:
            del self._asked[each]
        if ceased:
            self._connected(self._asked)

    def _sync(self, on_hold: OnHold) -> None:
        try:
            on_hold.sync()
        except OSError as error:
            log.warning("records of mail on hold are not on the disk: %s", error)

    def close(self) -> None:
        """Stop listening and end all connections: Postfix goes on without us."""
        if self._settling is not None:
            self._settling.cancel()
        self.sockets.close()

    def findings(self) -> list[Finding]:
        """Return where Postfix cannot ask."""
        return self.sockets.findings()

    def asked_about(self, client: str, port: int, about: About) -> bool:
        """Return whether Postfix asked about a message or a recipient of a session of this host.

        Args:
            client: its address.
            port: the client's.
            about: which.
        """
        return (client, port, about) in self._own

    # Requests

    def _answer(self, request: Request, spool: Spool, begins: bool) -> str:  # noqa: FBT001 - `Answering`
        """Return what a request is answered, and count the message that it is about."""
        found = PASS
        if request.stage == "data":
            found = self._message(request, spool)
        elif request.stage == "recipient":
            found = self._recipient(request)
        elif request.stage == "client" and self._answers is not None:
            scope = self._ports.get(request.server_port, "mx")
            found = self._answers.clients.client(request.client, scope, begins=begins)
        counts = self._pipeline.counts.answers
        counts[found.verdict] = counts.get(found.verdict, 0) + 1
        return found.action

    def _note(self, request: Request, about: About) -> None:
        """Note that Postfix asks."""
        if request.client in self._apart:
            self._own.append((request.client, request.port, about))
        begins = about not in self._asked
        self._asked[about] = monotonic()
        if begins:
            self._connected(self._asked)

    def _recipient(self, request: Request) -> Answer:
        """Return the answer about a recipient; this host's own users and hosts are not deferred."""
        self._note(request, "recipient")
        if self._answers is None or self._subjects(request) or request.client in self._apart:
            return PASS
        named, targets = self._pipeline.senders.queue.mailboxes.targets(request.recipient)
        return self._answers.senders.recipient(named, targets)

    def _message(self, request: Request, spool: Spool) -> Answer:
        self._note(request, "data")
        named = self._subjects(request)
        if not named:
            return PASS
        found = PASS
        if self._answers is not None:
            found = self._answers.senders.message(named, spool.instance, spool.processes)
            if found.verdict == "hold":
                found = self._recorded(found, request.queue_id, spool, named[0])
        if found.accepted:
            moment = now()
            self._pipeline.counting.request(event(request, moment.wall), moment)
            if self._settling is None and self._pipeline.senders.crossed:
                loop = asyncio.get_running_loop()
                self._settling = loop.call_later(_TOGETHER, self._settle)
        return found

    def _recorded(self, found: Answer, queue_id: str, spool: Spool, owner: str) -> Answer:
        """Return the answer, once it is recorded that a message is put on hold, and until when."""
        if self.on_hold is None or found.rate is None:
            return found
        if not queue_id:
            return UNRECORDED
        wall = now().wall
        until = wall + self.hold
        rate = found.rate.count, found.rate.per
        record = Held(spool.instance, queue_id, found.subject, wall, until, *rate, owner)
        try:
            self.on_hold.add(record)
        except OSError as error:
            if monotonic() - self._warned >= _WARN:
                self._warned = monotonic()
                log.warning("messages are deferred, not put on hold: %s", error)
            return UNRECORDED
        return found

    def _subjects(self, request: Request) -> list[str]:
        """Return whose a message is; nothing of mail from outside."""
        found = []
        if request.user:
            found.append(subjects.account_in_log(request.user, self._facts.sasl_domain))
        if request.client in self._inside and request.client not in self._apart:
            found.append(request.client)
        if found and (domain := subjects.domain(subjects.from_log(request.sender))):
            found.append(domain)
        return found

    def _settle(self) -> None:
        """Decide what the requests of the last milliseconds came to."""
        self._settling = None
        try:
            decisions, _spared = self._pipeline.settle(now())
            self._report(decisions)
            self._senders(self._pipeline.reports())
        except Exception as error:  # noqa: BLE001 - the next requests go on
            self._pipeline.skipped.add("request", error)
