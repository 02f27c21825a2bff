"""Postfix's policy delegation protocol: a request is read, an answer is written. Pure.

A request of smtpd(8) is a line `NAME=VALUE` for each attribute and an empty line; the answer is
`action=ACTION` and an empty line (SMTPD_POLICY_README, smtpd_check.c). Postfix asks its next
question on a connection only after the answer to the one before, and no value holds a newline.
Most values are written by the client, and a compromised smtpd may send anything.

Limits: `REQUEST` bytes, `LINE` bytes, `ATTRIBUTES` lines; Postfix 3.7 sends some 29 lines and 700
bytes, and no value is longer than line_length_limit (2048).
"""

import re
from typing import Literal

from msgspec import Struct

from throttled.model import POLICY_RECIPIENT, Event, Message
from throttled.parse.client import address_only
from throttled.parse.message import ID
from throttled.parse.rules import TEXT_LENGTH

REQUEST, LINE, ATTRIBUTES = 16_384, 4096, 100

#: When in the session Postfix asks: "client" at connect, HELO, MAIL and RCPT, "data" once for each
#: message before its content, "recipient" at each RCPT, by a check of its own (policy_context);
#: "" is any other protocol state, in which nothing is decided.
Stage = Literal["client", "data", "recipient", ""]
_STAGES: dict[str, Stage] = {
    **dict.fromkeys(("CONNECT", "HELO", "EHLO", "MAIL", "RCPT"), "client"),
    "DATA": "data",
}
_TYPE = "smtpd_access_policy"
_END = b"\n\n"
_DIGITS = 12
_ID = re.compile(ID)


class RequestError(ValueError):
    """What was read is no request of Postfix's."""


class Request(Struct, frozen=True, gc=False):
    """What smtpd says of a session and a message."""

    stage: Stage
    client: str  # canonical address; "" where there is none
    port: int  # the client's; 0 before Postfix 3.0
    name: str  # the client's forward-confirmed host name, or "unknown"
    server_port: int  # 0 before Postfix 3.2
    user: str  # SASL user name as the client wrote it; "" without a login
    queue_id: str  # "" before the first recipient
    sender: str
    recipients: int  # accepted so far; 0 before DATA
    recipient: str = ""  # at RCPT that one, as the client wrote it


class Reader:
    """Cuts the bytes of one connection into requests."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._pending = b""

    def feed(self, data: bytes) -> Request | None:
        """Take what arrived; return the request that it completes, None if that is not whole yet.

        Raises:
            RequestError: it is none, or more than one at once.
        """
        pending = self._pending + data if self._pending else data
        end = pending.find(_END)
        if end < 0 and len(pending) <= REQUEST:
            self._pending = pending
            return None
        self._pending = b""
        if end < 0 or end > REQUEST:
            raise RequestError(f"a request is longer than {REQUEST} bytes")
        if end + len(_END) != len(pending):
            raise RequestError("more than one request at once")
        return read(pending[:end])


def read(text: bytes) -> Request:
    """Read a request without its empty line.

    Raises:
        RequestError: it is none.
    """
    lines = text.decode("latin-1").split("\n")  # as log lines are: the same login, the same text
    if len(lines) > ATTRIBUTES:
        raise RequestError(f"a request has more than {ATTRIBUTES} attributes")
    if len(text) > LINE and max(map(len, lines)) > LINE:
        raise RequestError(f"an attribute is longer than {LINE} bytes")
    if b"\0" in text:
        raise RequestError("an attribute holds a NUL")
    try:
        attributes = dict([line.split("=", 1) for line in lines])
    except ValueError:
        attributes = {}  # a line without "=": below
    if attributes.get("request") != _TYPE or len(attributes) != len(lines):
        raise RequestError("not one request of type smtpd_access_policy")
    get = attributes.get
    queue_id = get("queue_id", "")
    stage = _STAGES.get(get("protocol_state", ""), "")
    if get("policy_context") == POLICY_RECIPIENT:
        stage = "recipient" if attributes.get("protocol_state") == "RCPT" else ""
    return Request(
        stage,
        address_only(get("client_address", "")),
        _number(get("client_port", "")),
        get("client_name", ""),
        _number(get("server_port", "")),
        get("sasl_username", "")[:TEXT_LENGTH],  # as of a log line: the same account
        queue_id if _ID.fullmatch(queue_id) else "",
        get("sender", ""),
        _number(get("recipient_count", "")),
        get("recipient", ""),
    )


def event(request: Request, time: float) -> Event:
    """Return what a request about a message says, as an event.

    Args:
        request: it.
        time: now, seconds since the epoch.
    """
    message = Message(request.queue_id, sender=request.sender, recipients=request.recipients)
    name = "" if request.name == "unknown" else request.name
    return Event(
        "policy_request",
        request.client,
        "smtpd",
        "postfix",
        0,
        time,
        name=name,
        where="DATA",
        user=request.user,
        port=request.port,
        message=message,
    )


def answer(action: str) -> bytes:
    """Return the answer with an action of access(5), which holds no newline."""
    return f"action={action}\n\n".encode("ascii")


def _number(text: str) -> int:
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else 0
