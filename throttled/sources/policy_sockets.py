"""The UNIX sockets where Postfix asks, below the queue directory of each instance.

The directory is 0710 root:postfix, the socket 0660; the peer's credentials (SO_PEERCRED, unix(7))
must be root's, mail_owner's or this process's.

Limits: see `throttled.parse.policy_request` for a request's; `_CONNECTIONS` in all, `_EACH` of a
process, and `_RATE` requests a second of a process; `_UNREAD` bytes that it does not read.
Processes of mail_owner that Postfix's master(8) did not start are counted as one, with `_FORKED`
connections: an smtpd that is compromised may fork as many as it likes.

Owns the sockets and the connections.
"""

import asyncio
import logging
import os
import pwd
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from time import monotonic

from msgspec import Struct

from throttled.enforce.answers import PASS
from throttled.facts import Spool
from throttled.linux.processes import parent
from throttled.linux.unix_socket import BoundSocket, credentials
from throttled.model import POLICY_SOCKET, Finding
from throttled.parse.policy_request import Reader, Request, RequestError, answer

log = logging.getLogger(__name__)

NAME = POLICY_SOCKET

_CONNECTIONS, _EACH, _FORKED, _RATE, _UNREAD = 2000, 8, 64, 1000, 65_536
_MASTER = "master", 0  # name and user of what starts smtpd(8)
_BACKLOG = 1024
#: Seconds in which a process that asks too often is not read.
_PAUSE = 1.0

_PASS = answer(PASS.action)

#: Returns the action for a request of an instance; the last says whether the client's session is
#: asked about for the first time.
Answering = Callable[[Request, Spool, bool], str]


class _Process(Struct):
    """One process that asks, and how much."""

    most: int  # connections
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


class PolicySockets:
    """The sockets, and the processes that ask there."""

    def __init__(self, answering: Answering) -> None:
        """Listen nowhere yet."""
        self.answering = answering
        self.unreadable = self.refused = 0  # requests, connections
        #: Half of this process's limit of descriptors: logs and the store need some.
        self._most = min(_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._spools: tuple[Spool, ...] = ()
        self._listeners: dict[str, _Listener] = {}
        self._missing: dict[str, str] = {}  # by queue directory
        self._removed: set[str] = set()  # queue directories where a socket was removed
        self._processes: dict[int, _Process] = {}
        self._forked = _Process(_FORKED)
        self._connections: set[_Connection] = set()

    def follow(self, spools: tuple[Spool, ...]) -> None:
        """Listen in these queue directories, and in no others."""
        self._spools = spools
        wanted = {spool.directory: spool for spool in spools}
        for directory in [d for d, one in self._listeners.items() if wanted.get(d) != one.spool]:
            self._listeners.pop(directory).close()
        self._missing = {d: p for d, p in self._missing.items() if d in wanted}
        self.tick()

    def tick(self) -> None:
        """Listen where that could not be so far, or where the socket was removed."""
        self._processes = {p: one for p, one in self._processes.items() if one.connections}
        for directory, one in list(self._listeners.items()):
            if not one.bound.present():
                log.warning("%s was removed: it is made again", one.path)
                self._listeners.pop(directory).close()
                self._removed.add(directory)
        for spool in self._spools:
            if spool.directory not in self._listeners:
                self._listen(spool)

    def close(self) -> None:
        """Stop listening and end all connections: Postfix goes on without us."""
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

    def admit(self, connection: "_Connection", pid: int, uid: int) -> _Process | None:
        """Return the process of a new connection; None if there are too many."""
        process = self._processes.get(pid)
        if process is None:
            process = self._forked
            if _genuine(pid, uid):
                most = _EACH if pid else self._most  # 0: all processes of another PID namespace
                process = self._processes[pid] = _Process(most)
        many = process.connections >= process.most or len(self._connections) >= self._most
        if many or not process.may_ask():
            return None
        process.connections += 1
        self._connections.add(connection)
        return process

    def leave(self, connection: "_Connection", process: _Process) -> None:
        """Stop counting a connection that has ended."""
        self._connections.discard(connection)
        process.connections -= 1


class _Listener:
    """One socket."""

    def __init__(self, spool: Spool, sockets: PolicySockets) -> None:
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
        self._sockets = sockets
        self._server: asyncio.Server | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Connection(self._sockets, self.spool, self._uids),
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

    def __init__(self, sockets: PolicySockets, spool: Spool, uids: Iterable[int]) -> None:
        self._sockets = sockets
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
            self._process = self._sockets.admit(self, self._pid, uid)
        if self._process is None:
            self._sockets.refused += 1
            transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """Count no more."""
        if self._process is not None:
            self._sockets.leave(self, self._process)
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
            self._sockets.unreadable += 1
            log.debug("policy request of process %d: %s", self._pid, error)
            transport.write(_PASS)
            transport.close()
            return
        if request is None:
            return
        session = (request.client, request.port)
        begins, self._session = session != self._session, session
        action = self._sockets.answering(request, self._spool, begins)
        transport.write(_PASS if action == PASS.action else answer(action))
        if transport.get_write_buffer_size() > _UNREAD:
            transport.abort()
        if not process.may_ask():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _genuine(pid: int, uid: int) -> bool:
    """Return whether a process is one that Postfix started, or root's; so is one not known."""
    starter = None if uid in (0, os.geteuid()) else parent(pid)
    return starter is None or (starter.name, starter.uid) == _MASTER


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
