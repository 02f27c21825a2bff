"""What listens in place of a Redis server: an HTTP server, silence, endless data, lies."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Answer = Callable[[socket.socket], object]

_CHUNK = b"x" * (1 << 20)


def http(connection: socket.socket) -> None:
    """Answer as a web server does."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def silence(connection: socket.socket) -> None:
    """Never answer."""
    while connection.recv(4096):
        pass


def endless(connection: socket.socket) -> None:
    """Send a string without end."""
    connection.recv(4096)
    connection.sendall(b"$500000000000\r\n")
    while True:
        connection.sendall(_CHUNK)


def lies(connection: socket.socket) -> None:
    """Answer each command with what it is no answer to."""
    while connection.recv(4096):
        connection.sendall(b"*2\r\n:1\r\n*-1\r\n%1\r\n+a\r\n*1\r\n$1\r\nb\r\n")


@contextmanager
def impostor(path: Path, answer: Answer) -> Iterator[None]:
    """Listen at a UNIX socket, and answer each connection in a thread of its own."""
    path.unlink(missing_ok=True)
    ended, threads = threading.Event(), list[threading.Thread]()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            answer(connection)

    def accept(listening: socket.socket) -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(0.1)
        thread = threading.Thread(target=accept, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
    path.unlink(missing_ok=True)
