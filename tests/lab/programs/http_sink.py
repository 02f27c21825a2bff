"""An HTTP server that stores what is posted to it, as JSON, and answers as it is asked to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from msgspec import Struct


class Request(Struct):
    """What the server received."""

    method: str
    path: str
    kind: str
    authorization: str
    body: Any


@contextmanager
def serve(status: int = 200) -> Iterator[tuple[str, list[Request]]]:
    """Serve on a port of the loopback interface; yield its URL, and what it receives."""
    received: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kind, authorization = (
                self.headers.get(name, "") for name in ("Content-Type", "Authorization")
            )
            received.append(Request(self.command, self.path, kind, authorization, body))
            self.send_response(status)
            self.end_headers()

        do_PUT = do_POST  # noqa: N815 - the name is BaseHTTPRequestHandler's

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", received
        finally:
            http.shutdown()
            thread.join()
