"""Requests and replies as lines on the control socket. Pure.

One connection carries one request and one reply, each a JSON object on a line of its own. A
request names its operation in `op`, a reply is `ok` with a typed result or `failed` with what an
operator needs: message, hint and the exit code of the command. Owns no state.
"""

import re

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from throttled.control.bulk import UnbanMany
from throttled.control.canonical import canonical
from throttled.control.requests import (
    MAX_REQUEST,
    Import,
    MailChange,
    PostfixChange,
    Purge,
    Request,
)
from throttled.control.results import Result
from throttled.errors import ThrottledError, UsageError

_AGAIN = "the daemon and this command may differ in version: restart the daemon"
#: What msgspec says of a text that is too short or too long: what people wrote, not a version.
_LENGTH = re.compile(r"Expected `str` of length ([<>])= (\d+) - at `\$\.(\w+)`")


class Ok(Struct, frozen=True, tag_field="reply", tag="ok"):
    """Done as asked."""

    result: Result


class Failed(Struct, frozen=True, tag_field="reply", tag="failed"):
    """Not done."""

    message: str
    hint: str
    exit_code: int


_decode_request = msgspec.json.Decoder[Request](Request).decode
_decode_reply = msgspec.json.Decoder[Ok | Failed](Ok | Failed).decode
_encode = msgspec.json.Encoder().encode


def encode(message: Request | Ok | Failed) -> bytes:
    """Return a request or a reply as one line."""
    return _encode(message) + b"\n"


def summary(request: Request | Purge | PostfixChange | MailChange) -> str:
    """Return a request as text for a record: of a list the beginning."""
    if isinstance(request, Import):
        entries = [replace(entry, why=entry.why[:40]) for entry in request.entries[:1]]
        request = replace(request, entries=entries if request.part else request.entries[:3])
    if isinstance(request, UnbanMany):
        request = replace(request, subjects=request.subjects[: 1 if request.part else 3])
    return _encode(request).decode()


def decode_request(line: bytes) -> Request:
    """Return the request on a line, its subject canonical.

    Raises:
        UsageError: not a request, or too long.
        RefusedError: a network wider than the floor without `force`.
    """
    if len(line) > MAX_REQUEST:
        raise UsageError(f"the request is longer than {MAX_REQUEST} bytes")
    try:
        request = _decode_request(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if length := _LENGTH.fullmatch(str(error)):
            bound = "at least" if length[1] == ">" else "at most"
            raise UsageError(f"{length[3]}: must have {bound} {length[2]} characters") from error
        raise UsageError(f"not a request: {error}", _AGAIN) from error
    return canonical(request)


def decode_reply(line: bytes) -> Result:
    """Return the result on a line.

    Raises:
        ThrottledError: the daemon's own error, with its hint and exit code; or not a reply.
    """
    try:
        reply = _decode_reply(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ThrottledError(f"the daemon's answer cannot be read: {error}", _AGAIN) from error
    if isinstance(reply, Ok):
        return reply.result
    failure = ThrottledError(reply.message, reply.hint)
    failure.exit_code = reply.exit_code
    raise failure
