"""A mail server that stores what it is given, or refuses it: an SMTP server of a few commands."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from msgspec import Struct


class Mail(Struct):
    """A mail that was accepted."""

    sender: str
    recipients: list[str]
    content: bytes

    def message(self) -> EmailMessage:
        """Return it, parsed."""
        found = message_from_bytes(self.content, policy=default)
        assert isinstance(found, EmailMessage)
        return found


class Sink:
    """What a server was given."""

    def __init__(self, address: str, refuse: str) -> None:
        self.address = address  # HOST:PORT
        self.mails: list[Mail] = []
        self.refuse = refuse  # a command that is answered with 554


class _Handler(socketserver.StreamRequestHandler):
    """One session; `sink` is set on a subclass."""

    sink: Sink

    def handle(self) -> None:
        """Answer until the client quits."""
        self._answer("220 sink")
        self.mail = Mail("", [], b"")
        for line in self.rfile:
            verb, _, rest = line.decode().partition(":")
            verb = verb.split()[0].upper()
            if verb == self.sink.refuse:
                self._answer("554 5.7.1 not\x1b wanted here")
                continue
            if verb == "QUIT":
                self._answer("221 bye")
                return
            self._do(verb, rest.strip())

    def _do(self, verb: str, rest: str) -> None:
        if verb == "MAIL":
            self.mail = Mail(rest.partition(">")[0].strip("<"), [], b"")
        elif verb == "RCPT":
            self.mail.recipients.append(rest.strip("<>"))
        elif verb == "DATA":
            self._answer("354 go on")
            self.mail.content = self._content()
            if self.sink.refuse == ".":
                self._answer("554 5.6.0 no")
                return
            self.sink.mails.append(self.mail)
        self._answer("250 sink")

    def _content(self) -> bytes:
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return b"".join(lines)

    def _answer(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def serve(refuse: str = "") -> Iterator[Sink]:
    """Serve on a port of the loopback interface.

    Args:
        refuse: a command (RCPT, DATA, .) that is refused.
    """
    sink = Sink("", refuse)
    handler = type("Handler", (_Handler,), {"sink": sink})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        sink.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield sink
        server.shutdown()
        thread.join()
