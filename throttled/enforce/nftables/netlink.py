"""A netlink socket to nf_tables: transactions, questions and dumps, as bytes.

The kernel works while `send` runs, so when it returns all answers wait in the socket: nothing here
waits for anything. A socket belongs to the network namespace in which it was made. Owns the
socket; needs CAP_NET_ADMIN.
"""

import socket
from collections.abc import Iterator, Sequence
from typing import Self

from throttled.enforce.nftables import messages
from throttled.enforce.nftables.messages import Message
from throttled.errors import BackendError

# Numbers of linux/netlink.h and asm-generic/socket.h that Python's socket does not name.
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

#: A transaction is one datagram. A bound; nothing is set aside.
_SEND = 64 << 20
#: Holds the answers to `_TOGETHER` questions, or an error for each message of a transaction.
_RECEIVE = 4 << 20
_TOGETHER = 256
#: The kernel never sends more at once in a dump.
_PIECE = 1 << 15


class Netlink:
    """One socket."""

    def __init__(self) -> None:
        """Open the socket.

        Raises:
            BackendError: not permitted, or the kernel has no nf_tables.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # errors without requests
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE)
        except OSError as error:
            raise BackendError(
                f"the kernel's firewall cannot be reached: {error.strerror}",
                "run as root or with CAP_NET_ADMIN; --mode observe needs neither",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def transaction(self, parts: Sequence[bytes]) -> dict[int, int]:
        """Put messages in force together, or none of them.

        Returns:
            The errno of each message that failed, by its sequence number; 0 stands for the whole.
            Empty: done.

        Raises:
            OSError: the kernel did not take it at all.
        """
        self._socket.send(messages.transaction(parts))
        return {
            answer.sequence: number
            for answer in self._answers()
            if answer.kind == messages.ERROR and (number := messages.error(answer))
        }

    def ask(self, questions: Sequence[bytes]) -> Iterator[Message]:
        """Ask and yield what is answered, errors too.

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
            for answer in messages.messages(self._socket.recv(_PIECE)):
                if answer.kind in (messages.DONE, messages.ERROR):
                    if number := messages.error(answer):
                        raise OSError(number, "dump")
                    return
                yield answer

    def _answers(self) -> Iterator[Message]:
        while True:
            try:
                data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from messages.messages(data)
