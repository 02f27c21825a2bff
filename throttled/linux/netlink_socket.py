"""A netlink socket: requests and dumps, as bytes.

The kernel works while `send` runs, so when it returns all answers are in the socket: nothing here
waits for anything. A socket belongs to the network namespace in which it was made. Owns the socket.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Self

from throttled.errors import BackendError
from throttled.linux.netlink import DONE, ERROR, Message, error, messages

# Numbers of linux/netlink.h and asm-generic/socket.h that Python's socket does not name.
NETFILTER, SOCK_DIAG = 12, 4
SOL_NETLINK, _CAP_ACK = 270, 10
_SNDBUFFORCE, RCVBUFFORCE = 32, 33

#: A transaction of nf_tables is one datagram. A bound; nothing is set aside.
_SEND = 64 << 20
#: Holds the answers to `_TOGETHER` questions, or an error for each message of a transaction.
_RECEIVE = 4 << 20
_TOGETHER = 256
#: The kernel never sends more at once in a dump.
_PIECE = 1 << 15


class Netlink:
    """One socket.

    Args:
        protocol: the subsystem, NETFILTER or SOCK_DIAG.

    Raises:
        OSError: this kernel lacks it.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(SOL_NETLINK, _CAP_ACK, 1)  # errors without their requests

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def enlarge(self) -> None:
        """Make room for large requests and many answers. Needs CAP_NET_ADMIN.

        Raises:
            OSError: not permitted.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _SEND)
        self._socket.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, _RECEIVE)

    def ask(self, questions: Sequence[bytes]) -> Iterator[Message]:
        """Send requests and yield what is answered, errors too.

        Raises:
            OSError: the kernel did not answer.
        """
        for at in range(0, len(questions), _TOGETHER):
            self._socket.send(b"".join(questions[at : at + _TOGETHER]))
            # All of them, now: what nobody reads would be taken for an answer to the next question.
            yield from list(self._answers())

    def dump(self, question: bytes) -> Iterator[Message]:
        """Yield the messages of a dump; one that is left early must be the socket's last.

        Raises:
            OSError: what is asked about does not exist, or the kernel did not answer.
        """
        self._socket.send(question)
        while True:
            for answer in messages(self._socket.recv(_PIECE)):
                if answer.kind in (DONE, ERROR):
                    if code := error(answer):
                        raise OSError(code, os.strerror(code))
                    return
                yield answer

    def _answers(self) -> Iterator[Message]:
        while True:
            try:
                data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from messages(data)


def netfilter() -> Netlink:
    """Return a socket to the kernel's firewall.

    Raises:
        BackendError: not permitted, or the kernel has none.
    """
    try:
        made = Netlink(NETFILTER)
        made.enlarge()
    except OSError as refused:
        raise BackendError(
            f"the kernel's firewall cannot be reached: {refused.strerror}",
            "run as root or with CAP_NET_ADMIN; --mode observe needs neither",
        ) from refused
    return made
