"""Serves the figures over HTTP, on a loopback port or a UNIX socket.

There is no password and no TLS: whoever reaches the place may read. Figures only: no address and no
other text of a client is in them. Owns the listening socket.

Limits: a request of 8 KiB, `TIME_LIMIT` seconds, `MAX_CONNECTIONS` at once; one a connection.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from throttled.errors import ConfigError, ThrottledError
from throttled.metrics.exposition import CONTENT_TYPE

MAX_CONNECTIONS = 16
MAX_REQUEST = 8192
TIME_LIMIT = 5.0

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
        self._open = 0

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
                # Removes the socket that a killed daemon left, and nothing that is no socket.
                self._server = await asyncio.start_unix_server(
                    self._connected, listen, limit=MAX_REQUEST
                )
                os.chmod(listen, 0o666)  # noqa: PTH101, S103 - as open as a loopback port
            else:
                address, _, port = listen.rpartition(":")
                self._server = await asyncio.start_server(
                    self._connected, address.strip("[]"), int(port), limit=MAX_REQUEST
                )
        except OSError as error:
            hint = 'another program may be there: set [metrics] listen to another place, or to ""'
            raise ConfigError(f"no figures at {listen}: {error}", hint) from error
        self.listen = listen

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self.listen.startswith("/"):
                Path(self.listen).unlink(missing_ok=True)
        self.listen = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        finally:
            writer.transport.abort()
            self._open -= 1

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if self._open > MAX_CONNECTIONS:
            return _response("503 Service Unavailable", b"busy\n")
        if method not in {b"GET", b"HEAD"}:
            return _response("405 Method Not Allowed", b"only GET\n")
        if target != b"/metrics":
            return _response("404 Not Found", b"the figures are at /metrics\n")
        try:
            text = self._expose()
        except ThrottledError as error:  # a store that cannot be read
            _log.warning("no figures: %s", error.message)
            return _response("503 Service Unavailable", error.message.encode() + b"\n")
        return _response("200 OK", text, CONTENT_TYPE, head=method == b"HEAD")


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
