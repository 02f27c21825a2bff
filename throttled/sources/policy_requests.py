"""Answers Postfix's policy requests: a UNIX socket below the queue directory of each instance.

smtpd(8) asks before each message's content, and, if main.cf says so, about each client.
A message of an account or an inside host becomes an event that is counted like a log line. The
backend for policy answers returns the answer, from the entries applied before, so no request waits
for a decision. Where no entry is active, while observing, and for what is no request,
the answer is DUNNO: Postfix goes on as if it had not asked.

The directory is 0710 root:postfix, the socket 0660; the peer's credentials (SO_PEERCRED, unix(7))
must be root's, mail_owner's or this process's. A request can only slow the sender it names.

Limits: see `throttled.parse.policy_request` for a request's; `_CONNECTIONS` in all, `_EACH` of a
process, and `_RATE` requests a second of a process; `_UNREAD` bytes that it does not read.

Owns the sockets and the connections.
"""

import asyncio
import logging
import os
import pwd
import resource
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from time import monotonic

from msgspec import Struct

from throttled import subjects
from throttled.address import LOOPBACK
from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.enforce.answers import PASS, UNRECORDED, Answer
from throttled.enforce.cover import Cover
from throttled.enforce.dispatch import Dispatch
from throttled.host.on_hold import Held, OnHold
from throttled.linux.unix_socket import BoundSocket, credentials
from throttled.model import POLICY_SOCKET, Decision, Facts, Finding, Report, Scope, Spool
from throttled.parse.policy_request import Reader, Request, RequestError, answer, event

log = logging.getLogger(__name__)

NAME = POLICY_SOCKET

_CONNECTIONS, _EACH, _RATE, _UNREAD = 2000, 8, 1000, 65_536
_BACKLOG = 1024
#: Sessions of this host that are remembered.
_OWN = 1000
#: If Postfix asked about no message for so many seconds, it may have ceased to ask.
_SILENT = 3600.0
#: Seconds between warnings that messages are deferred instead: one sender may be at its cap.
_WARN = 60.0
#: A process that asks too often is not read for so many seconds.
_PAUSE = 1.0
#: Seconds from a request to the decisions that follow; those of the time between come together.
_TOGETHER = 0.005


class _Process(Struct):
    """One process that asks, and how much."""

    connections: int = 0
    second: int = 0
    requests: int = 0  # within that second; a connection counts as one

    def may_ask(self) -> bool:
        """Count a request; tell whether it is no more than any smtpd can need in a second."""
        second = int(monotonic())
        if second != self.second:
            self.second, self.requests = second, 0
        self.requests += 1
        return self.requests <= _RATE


class PolicyRequests:
    """The sockets, and what is asked there."""

    def __init__(
        self,
        pipeline: Pipeline,
        answers: Dispatch | None,
        report: Callable[[Sequence[Decision]], None],
        senders: Callable[[Sequence[Report]], None],
        connected: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Listen nowhere yet.

        Args:
            pipeline: where events go.
            answers: says what is answered; None: nothing is enforced.
            report: called with the decisions that requests led to.
            senders: called with the senders that crossed a limit.
            connected: called when Postfix begins to ask, and when it did not for `_SILENT`.
        """
        self.unreadable = self.refused = 0  # requests, connections
        self._pipeline = pipeline
        self._answers = answers
        self._report = report
        self._senders = senders
        self._connected = connected
        #: Where messages that are put on hold are recorded; None: nowhere.
        self.on_hold: OnHold | None = None
        self._warned = -_WARN  # monotonic clock, that a message could not be recorded
        self.hold = 3600.0  # seconds until mail is released
        #: Half of this process's limit of descriptors: logs and the store need some.
        self._most = min(_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._asked = 0.0  # monotonic clock, of the latest request about a message; 0.0: none
        self._listeners: dict[str, _Listener] = {}
        self._missing: dict[str, str] = {}  # by queue directory
        self._removed: set[str] = set()  # queue directories where a socket was removed
        self._processes: dict[int, _Process] = {}
        self._connections: set[_Connection] = set()
        self._settling: asyncio.TimerHandle | None = None
        #: Sessions of this host that Postfix asked about: `throttled postfix connect` makes some.
        self._own: deque[tuple[str, int]] = deque(maxlen=_OWN)
        self._facts = Facts()
        self._inside = self._apart = Cover()
        self._ports: dict[int, Scope] = {}

    def follow(self, facts: Facts) -> None:
        """Listen in these queue directories, and in no others."""
        self._facts = facts
        self._inside = Cover(facts.mynetworks)
        self._apart = Cover((*LOOPBACK, *facts.own))
        self._ports = {service.port: service.scope for service in facts.services}
        wanted = {spool.directory: spool for spool in facts.spools}
        for directory in [d for d, one in self._listeners.items() if wanted.get(d) != one.spool]:
            self._listeners.pop(directory).close()
        self._missing = {d: p for d, p in self._missing.items() if d in wanted}
        self.tick()

    def tick(self, _moment: Moment | None = None) -> None:
        """Listen where that could not be so far, or where the socket was removed."""
        if self._asked and monotonic() - self._asked > _SILENT:
            self._asked = 0.0
            self._connected(False)
        self._processes = {p: one for p, one in self._processes.items() if one.connections}
        for directory, one in list(self._listeners.items()):
            if not one.bound.present():
                log.warning("%s was removed: it is made again", one.path)
                self._listeners.pop(directory).close()
                self._removed.add(directory)
        for spool in self._facts.spools:
            if spool.directory not in self._listeners:
                self._listen(spool)

    def close(self) -> None:
        """Stop listening and end all connections: Postfix goes on without us."""
        if self._settling is not None:
            self._settling.cancel()
        for one in self._listeners.values():
            one.close()
        self._listeners = {}
        for connection in list(self._connections):
            connection.abort()

    def findings(self) -> list[Finding]:
        """Return where Postfix cannot ask."""
        hint = "Postfix accepts mail all the same; accounts and inside hosts are not slowed there"
        return [
            Finding("warning", f"policy requests: {what}", hint, f"policy-requests:{directory}")
            for directory, what in self._missing.items()
        ]

    def asked_about(self, client: str, port: int) -> bool:
        """Return whether Postfix asked about a message of a session of this host.

        Args:
            client: its address.
            port: the client's.
        """
        return (client, port) in self._own

    def _listen(self, spool: Spool) -> None:
        try:
            self._listeners[spool.directory] = _Listener(spool, self)
        except (OSError, KeyError, ValueError) as error:
            there = Path(spool.directory, NAME).parent.exists()
            if not there and spool.directory not in self._removed:
                return  # nor did Postfix ever ask there
            what = f"no socket {spool.directory}/{NAME}: {error}"
            if self._missing.get(spool.directory) != what:
                log.warning("policy requests: %s", what)
            self._missing[spool.directory] = what
        else:
            self._missing.pop(spool.directory, None)
            self._removed.discard(spool.directory)

    # Connections

    def admit(self, connection: "_Connection", pid: int) -> _Process | None:
        """Return the process of a new connection; None if there are too many."""
        process = self._processes.setdefault(pid, _Process())
        many = process.connections >= _EACH or len(self._connections) >= self._most
        if many or not process.may_ask():
            return None
        process.connections += 1
        self._connections.add(connection)
        return process

    def leave(self, connection: "_Connection", process: _Process) -> None:
        """Stop counting a connection that has ended."""
        self._connections.discard(connection)
        process.connections -= 1

    # Requests

    def answer(self, request: Request, spool: Spool, *, begins: bool) -> Answer:
        """Return what a request is answered, and count the message that it is about.

        Args:
            request: it.
            spool: of the instance that asks.
            begins: whether the client's session is asked about for the first time.
        """
        found = PASS
        if request.stage == "data":
            found = self._message(request, spool)
        elif request.stage == "client" and self._answers is not None:
            scope = self._ports.get(request.server_port, "mx")
            found = self._answers.clients.client(request.client, scope, begins=begins)
        counts = self._pipeline.counts.answers
        counts[found.verdict] = counts.get(found.verdict, 0) + 1
        return found

    def _message(self, request: Request, spool: Spool) -> Answer:
        if request.client in self._apart:
            self._own.append((request.client, request.port))
        if not self._asked:
            self._connected(True)
        self._asked = monotonic()
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
            if self._settling is None:
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
            found.append(subjects.account(subjects.from_log(request.user), self._facts.sasl_domain))
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


class _Listener:
    """One socket."""

    def __init__(self, spool: Spool, requests: PolicyRequests) -> None:
        """Make the directory and the socket, and listen.

        Raises:
            OSError, KeyError, ValueError: that cannot be; the text says why.
        """
        owner = pwd.getpwnam(spool.owner)
        self.spool = spool
        self.path = Path(spool.directory) / NAME
        _make_directory(self.path.parent, owner.pw_gid)
        self.bound = BoundSocket(self.path, 0o600)
        try:
            os.chown(self.path, -1, owner.pw_gid, follow_symlinks=False)
            self.path.chmod(0o660)
            self.bound.socket.setblocking(False)
            self.bound.socket.listen(_BACKLOG)
        except BaseException:
            self.bound.socket.close()
            self.bound.close()
            raise
        self._uids = {0, os.geteuid(), owner.pw_uid}
        self._requests = requests
        self._server: asyncio.Server | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Connection(self._requests, self.spool, self._uids),
            sock=self.bound.socket,
            backlog=_BACKLOG,
        )

    def close(self) -> None:
        """Stop listening; connections go on."""
        self._starting.cancel()
        if self._server is not None:
            self._server.close()
        self.bound.socket.close()
        self.bound.close()


class _Connection(asyncio.Protocol):
    """One connection of one smtpd process."""

    def __init__(self, requests: PolicyRequests, spool: Spool, uids: Iterable[int]) -> None:
        self._requests = requests
        self._spool = spool
        self._uids = uids
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._pid = 0
        self._process: _Process | None = None
        self._session = ("", 0)  # address and port of the client asked about last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the peer, or hang up."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream server gives
        self._transport = transport
        self._pid, uid, _gid = credentials(transport.get_extra_info("socket"))
        if uid in self._uids:
            self._process = self._requests.admit(self, self._pid)
        if self._process is None:
            self._requests.refused += 1
            transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """Count no more."""
        if self._process is not None:
            self._requests.leave(self, self._process)
            self._process = None

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer a request as soon as it is whole."""
        transport, process = self._transport, self._process
        if transport is None or process is None:
            return
        try:
            request = self._reader.feed(data)
        except RequestError as error:
            self._requests.unreadable += 1
            log.debug("policy request of process %d: %s", self._pid, error)
            transport.write(answer(PASS.action))
            transport.close()
            return
        if request is None:
            return
        session = (request.client, request.port)
        begins, self._session = session != self._session, session
        found = self._requests.answer(request, self._spool, begins=begins)
        transport.write(answer(found.action))
        if transport.get_write_buffer_size() > _UNREAD:
            transport.abort()
        if not process.may_ask():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _make_directory(path: Path, gid: int) -> None:
    """Make a directory that root and a group may enter, or check the one that is there.

    Raises:
        OSError: it cannot be made, or has another owner.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o710)
    found = path.lstat()
    if not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is not a directory of this user")
    if found.st_gid != gid:
        os.chown(path, -1, gid)
    path.chmod(0o710)
