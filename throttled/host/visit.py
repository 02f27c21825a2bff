"""Tries whether an instance's services ask at our socket: a session up to DATA, without a message.

A session is ended after the reply to DATA and before its content, so no mail is made; smtpd logs
`lost connection after DATA`. Owns no state.
"""

import smtplib
import socket
from contextlib import suppress
from typing import Literal

from msgspec import Struct

from throttled.host.greeting import SECONDS, Endpoint, begin, context

#: What smtpd replies where a restriction cannot be used (smtpd_check.c).
_BROKEN = "4.3.5"
_REQUEST = b"request=smtpd_access_policy\nprotocol_state=NOOP\n\n"


class Session(Struct, frozen=True):
    """How far a session came."""

    state: Literal["data", "broken", "refused"]
    client: str = ""  # our address
    port: int = 0  # ours
    reply: str = ""
    recipient: str = ""  # the reply to the second recipient


class _Client(smtplib.SMTP):
    """A client that begins as a proxy or with TLS where a service wants it."""

    def __init__(self, service: Endpoint) -> None:
        self._service = service
        super().__init__(timeout=SECONDS)
        self._host = "localhost"  # connect() does not set it, and starttls() wants a name

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((host, port), timeout)
        return begin(made, self._service)


def answers(path: str) -> bool:
    """Return whether the daemon answers policy requests at a socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(SECONDS)
        with suppress(OSError):
            made.connect(path)
            made.sendall(_REQUEST)
            return made.recv(512).startswith(b"action=")
    return False


def visit(service: Endpoint, recipient: str = "") -> Session:
    """Begin a message at a service, and hang up before its content.

    Args:
        service: it.
        recipient: a second one; of the first, `postmaster`, smtpd(8) never asks.
    """
    last = Session("refused", reply="no connection")
    for host in service.hosts:
        client = _Client(service)
        try:
            client.connect(host, service.port)
            return _session(client, recipient)
        except (OSError, smtplib.SMTPException) as error:
            last = Session("refused", reply=str(error))
        finally:
            client.close()
    return last


def _session(client: _Client, recipient: str) -> Session:
    assert client.sock is not None  # noqa: S101 - it is connected
    own, port = client.sock.getsockname()[:2]
    client.ehlo()
    if client.has_extn("starttls"):
        client.starttls(context=context())
        client.ehlo()
    commands = [("mail", "FROM:<>"), ("rcpt", "TO:<postmaster>"), ("data", "")]
    asked, second = f"TO:{smtplib.quoteaddr(recipient)}", ""
    if recipient:
        commands.insert(-1, ("rcpt", asked))
    for verb, argument in commands:
        code, text = client.docmd(verb, argument)
        reply = f"{code} {text.decode('ascii', 'replace')}".partition("\n")[0]
        if _BROKEN in reply:
            return Session("broken", own, port, reply)
        if argument == asked:
            second = reply
        elif code not in (250, 251, 354):
            return Session("refused", own, port, reply)
    return Session("data", own, port, recipient=second)
