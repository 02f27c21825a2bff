"""The daemon's end of the control socket: an asyncio UNIX stream server.

Owns the socket file and the open connections. The file's mode, 0600 for root alone or 0660 with
`group`, keeps others out; the peer's credentials (SO_PEERCRED, SO_PEERGROUPS: the kernel's word
for who connected, unix(7)) are checked again, so a socket opened to all by mistake admits nobody
else. Root, the daemon's own user and the members of the group may do everything, others nothing.
Changes are logged with who asked.

Limits: connections and requests of each user, see `admission`; more connections are refused
with the advice to try again. A client has `TIME_LIMIT` seconds to send its request, and as long to
read the reply. The handler itself is never cancelled: a recorded change must also be applied.
"""

import asyncio
import errno
import grp
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

from msgspec import Struct

from throttled.control import requests, wire
from throttled.control.admission import Admission
from throttled.control.requests import Request
from throttled.control.results import Result
from throttled.control.wire import Failed, Ok
from throttled.errors import ConfigError, NotPermittedError, RefusedError, ThrottledError
from throttled.linux.unix_socket import BoundSocket, credentials

TIME_LIMIT = 5.0

#: Linux's asm-generic/socket.h; Python has no name for it.
_SO_PEERGROUPS = 59

_log = logging.getLogger(__name__)


class Peer(Struct, frozen=True):
    """Who asks, as the kernel says."""

    pid: int
    uid: int
    gid: int


Handler = Callable[[Request, Peer], Awaitable[Result]]


class Server:
    """Answers requests on a UNIX socket.

    Args:
        path: the socket's file; its directory is made if it is missing.
        group: name of a group that may use the socket besides root; "" = none.
        handler: returns the result of a request, or raises `ThrottledError`.
        time_limit: seconds for a client to send its request, and to take the reply.
        admission: how much each user may ask.
    """

    def __init__(
        self,
        path: Path,
        group: str,
        handler: Handler,
        time_limit: float = TIME_LIMIT,
        admission: Admission | None = None,
    ) -> None:
        self._path = path
        self._group = group
        self._handler = handler
        self._time_limit = time_limit
        self._admission = admission or Admission()
        self._gid: int | None = None
        self._server: asyncio.Server | None = None
        self._bound: BoundSocket | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            RefusedError: another daemon has it.
            ConfigError: no such group, or the path is no place for a socket.
            NotPermittedError: not allowed to write there.
        """
        try:
            sock = self._bind()
        except PermissionError as error:
            hint = "run as root, or set [control] socket to a path that you may write to"
            raise NotPermittedError(f"cannot make the control socket: {error}", hint) from error
        except OSError as error:
            hint = "set [control] socket to another path (at most 107 bytes long)"
            raise ConfigError(
                f"cannot make the control socket {self._path}: {error}", hint
            ) from error
        self._server = await asyncio.start_unix_server(
            self._connected, sock=sock, limit=requests.MAX_REQUEST
        )

    async def stop(self) -> None:
        """Stop listening, let requests under way end, remove the socket file."""
        await self.drain()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    async def drain(self) -> None:
        """Stop listening, let requests under way end: for a second, then they are cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=1)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)

    def _bind(self) -> socket.socket:
        gid = self._gid = self._find_gid()
        self._path.parent.mkdir(mode=0o755, exist_ok=True)
        try:
            self._bound = bound = BoundSocket(self._path, 0o600)
        except FileExistsError as error:
            hint = "remove it, or set [control] socket to another path"
            raise ConfigError(f"{self._path} exists and is not a socket", hint) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise self._refusal() from error
        try:
            if gid is not None:
                os.chown(self._path, -1, gid)
                self._path.chmod(0o660)
        except BaseException:
            bound.socket.close()
            bound.close()
            raise
        return bound.socket

    def _find_gid(self) -> int | None:
        if not self._group:
            return None
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError as error:
            hint = f"create it (addgroup --system {self._group}), or leave [control] group empty"
            raise ConfigError(f"no such group: {self._group}", hint) from error

    def _refusal(self) -> RefusedError:
        hint = "stop it first (systemctl stop throttled), or set [control] socket to another path"
        return RefusedError(f"another daemon uses {self._path}", hint)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs every client in a task
        sock: socket.socket = writer.get_extra_info("socket")
        peer = Peer(*credentials(sock))
        admitted = self._admission.enter(peer.uid)
        self._open.add(task)
        closed = False
        try:
            if not admitted:
                reply: Ok | Failed | None = Failed("the daemon is busy", "try again", 3)
            elif not self._permitted(sock, peer):
                _log.warning("uid %d, pid %d may not use the control socket", peer.uid, peer.pid)
                hint = "run it as root (sudo), or join the group that [control] group names"
                reply = Failed("not permitted to talk to the daemon", hint, 3)
            else:
                reply = await self._answer(reader, peer)
            if reply is not None:
                writer.write(wire.encode(reply))
                async with asyncio.timeout(self._time_limit):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                closed = True
        except (OSError, TimeoutError) as error:
            _log.info("control client disconnected: %s", error or "too slow")
        except asyncio.CancelledError:
            # By `stop`, which waits no longer; asyncio's own callback would call it an error.
            _log.info("control client was cut off: the daemon stops")
        finally:
            if not closed:  # asyncio fails to abort what it closed behind a long reply
                writer.transport.abort()
            self._open.discard(task)
            if admitted:
                self._admission.leave(peer.uid)

    def _permitted(self, sock: socket.socket, peer: Peer) -> bool:
        return peer.uid in (0, os.geteuid()) or (
            self._gid is not None and self._gid in {peer.gid, *_groups(sock)}
        )

    async def _answer(self, reader: asyncio.StreamReader, peer: Peer) -> Ok | Failed | None:
        """Return the reply to one client; None if it left without a word."""
        try:
            async with asyncio.timeout(self._time_limit):
                line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            line = error.partial
        except asyncio.LimitOverrunError:
            line = b" " * (requests.MAX_REQUEST + 1)  # too long, says the protocol
        await asyncio.sleep(self._admission.delay(peer.uid, monotonic()))
        try:
            return Ok(await self._handle(line, peer))
        except ThrottledError as error:
            return Failed(error.message, error.hint, error.exit_code)
        except Exception:  # noqa: BLE001 - logged; no request may end the daemon
            _log.exception("control request failed")
            return Failed("internal error, the daemon goes on", "see the daemon's log", 1)

    async def _handle(self, line: bytes, peer: Peer) -> Result:
        request = wire.decode_request(line)
        if not isinstance(request, requests.READS):
            text = wire.summary(request)  # JSON: control characters escaped
            _log.debug("uid %d, pid %d asks: %s", peer.uid, peer.pid, text)
        return await self._handler(request, peer)


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """Return the peer's supplementary groups; none where there are more than 256."""
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError:
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)
