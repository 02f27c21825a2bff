"""Serves the figures over HTTP, on a loopback port or a UNIX socket.

There is no password and no TLS: whoever reaches the place may read. Figures only: no address and no
other text of a client is in them. Owns the listening socket.

Limits: a request of 8 KiB, `TIME_LIMIT` seconds, `MAX_CONNECTIONS` at once, more are hung up on;
one a connection. The figures are worked out anew after `FRESH` seconds at the earliest.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from throttled.control import client
from throttled.control.claim import Claim
from throttled.errors import ConfigError, ThrottledError
from throttled.metrics.exposition import CONTENT_TYPE

MAX_CONNECTIONS = 16
MAX_REQUEST = 8192
TIME_LIMIT = 5.0
FRESH = 0.5

_log = logging.getLogger(__name__)


class MetricsServer:
    """Answers `GET /metrics`.

    Args:
        expose: returns the figures as text.
    """

    def __init__(self, expose: Callable[[], bytes]) -> None:
        self.listen = ""
        self._expose = expose
        self._server: asyncio.Server | None = None
        self._claim: Claim | None = None
        self._inode = 0
        self._open = 0
        self._text = b""
        self._stale = 0.0  # from when on (monotonic) the text is too old

    async def serve(self, listen: str) -> None:
        """Listen there, and no longer where it was.

        Args:
            listen: "ADDRESS:PORT", or the path of a UNIX socket; "" = nowhere.

        Raises:
            ConfigError: it is not possible there; nothing is served.
        """
        if listen == self.listen:
            return
        self.stop()
        if not listen:
            return
        try:
            if listen.startswith("/"):
                bound = self._bound(Path(listen))
                self._server = await asyncio.start_unix_server(
                    self._connected, sock=bound, limit=MAX_REQUEST
                )
            else:
                address, _, port = listen.rpartition(":")
                self._server = await asyncio.start_server(
                    self._connected, address.strip("[]"), int(port), limit=MAX_REQUEST
                )
        except (OSError, UnicodeError) as error:  # UnicodeError: no host can be called that
            self._release()
            hint = 'another program may be there: set [metrics] listen to another place, or to ""'
            raise ConfigError(f"no figures at {listen}: {error}", hint) from error
        self.listen = listen

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self.listen.startswith("/"):
                path = Path(self.listen)
                with contextlib.suppress(OSError):
                    if path.lstat().st_ino == self._inode:  # not a successor's
                        path.unlink()
            self._release()
        self.listen = ""

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _bound(self, path: Path) -> socket.socket:
        """Return a socket bound to a path, as open to all as a loopback port.

        What a killed daemon left there goes; a socket at which somebody answers, and a file, stay.
        """
        self._claim = Claim.take(path)
        if self._claim is None or client.answers(path):
            raise OSError(errno.EADDRINUSE, "another program answers there")
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        bound = _open(path)
        self._inode = path.lstat().st_ino
        return bound

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MAX_CONNECTIONS:
            writer.write(_response("503 Service Unavailable", b"busy\n"))
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(TIME_LIMIT):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever it is does not speak HTTP, or is too slow
        except asyncio.CancelledError:
            pass  # the daemon ends; asyncio's own callback would call it an error
        finally:
            writer.transport.abort()
            self._open -= 1

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _response("405 Method Not Allowed", b"only GET\n")
        if target != b"/metrics":
            return _response("404 Not Found", b"the figures are at /metrics\n")
        try:
            if monotonic() >= self._stale:
                self._text = self._expose()
                self._stale = monotonic() + FRESH
        except ThrottledError as error:  # a store that cannot be read
            _log.warning("no figures: %s", error.message)
            return _response("503 Service Unavailable", error.message.encode() + b"\n")
        return _response("200 OK", self._text, CONTENT_TYPE, head=method == b"HEAD")


def _open(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file takes over the mode of the unbound socket but for the umask: no chmod afterwards, it
    # would follow a link that the directory's owner puts there in between. No thread makes files.
    os.fchmod(sock.fileno(), 0o666)
    before = os.umask(0)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _response(
    status: str, body: bytes, content_type: str = "text/plain; charset=utf-8", *, head: bool = False
) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + (b"" if head else body)
