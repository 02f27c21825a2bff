"""The commands' end of the control socket: one request, one reply, synchronous. Owns no state.

Limits: a reply has at most `results.MAX_REPLY` bytes; the whole exchange ends within its timeout.
"""

import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic

from throttled.control import results, wire
from throttled.control.requests import Request
from throttled.control.results import Result
from throttled.errors import NotPermittedError, NotRunningError, ThrottledError, UsageError
from throttled.linux.claim import in_use
from throttled.linux.unix_socket import answers

TIMEOUT = 30.0
_START = "start it: systemctl start throttled, or: throttled run"


def request(path: Path, message: Request, timeout: float = TIMEOUT) -> Result:
    """Send a request to the daemon and return its result.

    Args:
        path: the control socket.
        message: what is asked.
        timeout: seconds for the whole exchange.

    Raises:
        NotRunningError: no answer at `path`, or not in time.
        NotPermittedError: we may not open the socket.
        ThrottledError: what the daemon itself says is wrong, with its exit code.
    """
    deadline = monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(str(path))
            with suppress(BrokenPipeError):  # refused before it was read: the answer says why
                sock.sendall(wire.encode(message))
            line = _receive(sock, deadline)
    except PermissionError as error:
        hint = "run it as root (sudo), or join the group that [control] group names"
        raise NotPermittedError(f"not permitted to talk to the daemon at {path}", hint) from error
    except TimeoutError as error:
        hint = "it may still make a change that was asked for; see: journalctl -u throttled"
        raise NotRunningError(f"the daemon did not answer within {timeout:g} s", hint) from error
    except OSError as error:
        if "path too long" in str(error):
            raise UsageError(
                f"the socket's path is too long: {path}", "107 bytes at most"
            ) from error
        raise NotRunningError(f"the daemon is not running (no answer at {path})", _START) from error
    if not line.endswith(b"\n"):
        raise NotRunningError("the daemon closed the connection without an answer", _START)
    return wire.decode_reply(line)


def alive(path: Path) -> bool:
    """Return whether a daemon has this socket, also one that does not answer or listen yet."""
    return in_use(path) or answers(path)


def _receive(sock: socket.socket, deadline: float) -> bytes:
    """Return what comes until the line or the stream ends."""
    received = bytearray()
    while not received.endswith(b"\n"):
        sock.settimeout(max(deadline - monotonic(), 0.001))
        piece = sock.recv(1 << 18)
        if not piece:
            break
        received += piece
        if len(received) > results.MAX_REPLY:
            raise ThrottledError("the daemon's answer is too long", "ask for fewer rows: --max")
    return bytes(received)
