"""Serves the metrics over HTTP, on a loopback port or a UNIX socket.

There is no password and no TLS: whoever reaches the place may read. Metrics only: no address and no
other text of a client is in them. Owns the listening socket, and why there is none.

Limits: a request of 8 KiB, `TIME_LIMIT` seconds, one a connection, `MAX_CONNECTIONS` at once:
beyond, the one that has waited longest is closed, so that idle ones keep out none that asks at
once. The metrics are computed again after `FRESH` seconds at the earliest.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from throttled.errors import ConfigError, ThrottledError
from throttled.linux.unix_socket import BoundSocket

MAX_CONNECTIONS = 16
MAX_REQUEST = 8192
TIME_LIMIT = 5.0
FRESH = 0.5

_log = logging.getLogger(__name__)


class MetricsServer:
    """Answers `GET /metrics`.

    Args:
        expose: returns the metrics as text.
    """

    def __init__(self, expose: Callable[[], bytes]) -> None:
        self.listen = ""
        self.error: ConfigError | None = None  # why nothing is served where it should be
        self._expose = expose
        self._server: asyncio.Server | None = None
        self._bound: BoundSocket | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._text = b""
        self._type = ""  # of the text
        self._stale = 0.0  # from when on (monotonic) the text is too old

    async def serve(self, listen: str) -> None:
        """Listen there, and no longer where it was.

        Args:
            listen: "ADDRESS:PORT", or the path of a UNIX socket; "" = nowhere. Where that is not
                possible, nothing is served, and `error` says why.
        """
        self.error = None
        if listen == self.listen:
            return
        self.stop()
        if not listen:
            return
        # The library's 70 ms and 14 MB: not while a request waits, and not where nobody asks.
        from throttled.metrics.exposition import CONTENT_TYPE  # noqa: PLC0415

        self._type = CONTENT_TYPE
        try:
            if listen.startswith("/"):
                self._bound = BoundSocket(Path(listen), 0o666)  # as open as a loopback port
                self._server = await asyncio.start_unix_server(
                    self._connected, sock=self._bound.socket, limit=MAX_REQUEST
                )
            else:
                address, _, port = listen.rpartition(":")
                self._server = await asyncio.start_server(
                    self._connected, address.strip("[]"), int(port), limit=MAX_REQUEST
                )
        except (OSError, UnicodeError) as error:  # UnicodeError: no host can be called that
            self.stop()
            hint = 'another program may be there: set [metrics] listen to another place, or to ""'
            self.error = ConfigError(f"no metrics at {listen}: {error}", hint)
            _log.warning("%s. %s", self.error.message, hint)
            return
        self.listen = listen

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        self.listen = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
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
            self._open.pop(writer, None)

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in {b"GET", b"HEAD"}:
            return _response("405 Method Not Allowed", b"only GET\n")
        if target != b"/metrics":
            return _response("404 Not Found", b"the metrics are at /metrics\n")
        try:
            if monotonic() >= self._stale:
                self._text = self._expose()
                self._stale = monotonic() + FRESH
        except ThrottledError as error:  # a store that cannot be read
            _log.warning("no metrics: %s", error.message)
            return _response("503 Service Unavailable", error.message.encode() + b"\n")
        return _response("200 OK", self._text, self._type, head=method == b"HEAD")


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
