"""How long after a log line is written is the first packet of its client dropped?

A source sends TCP segments to the server without a pause. No connection is theirs, so the server's
kernel answers each at once with a reset that carries the segment's own number, unless the firewall
drops it. In the meantime the line that crosses a limit is appended to a log. The first segment that
is not answered was the first one dropped: known to the time between two segments, 0.05-0.1 ms.
Owns a raw socket per probe. IPv4 only.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from lab.mail import logs
from lab.network.netns import SERVER4, Namespace

_ANSWER_SECONDS = 0.002  # a reset takes 0.02 ms on an idle machine
_SURE_SECONDS = 0.05  # after so long without any, none comes
_TRIAL_SECONDS = 5.0

_SYN, _ACK = 0x02, 0x10

#: Puts lines, each with its end, where the daemon reads them, before it returns.
Write = Callable[[str], object]

#: `auth-slow` bans above ten user names: so many guesses come first, and one more crosses.
BEFORE = 10


class Probe:
    """Segments from one source address to the server's port 25."""

    def __init__(self, client: Namespace, source: str) -> None:
        with client.entered():
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._sock.bind((source, 0))
        self._sock.connect((SERVER4, 25))
        self._sock.setblocking(False)
        pseudo = socket.inet_aton(source) + socket.inet_aton(SERVER4) + struct.pack("!HH", 6, 20)
        self._sum = sum(struct.unpack("!6H", pseudo))
        self._sent = 0
        self.heard = 0  # the latest segment that was answered

    def answered(self, seconds: float = _ANSWER_SECONDS) -> bool:
        """Send a segment and return whether it was answered within so many seconds."""
        self._send(_ACK)
        end = time.perf_counter() + seconds
        while self.heard < self._sent and time.perf_counter() < end:
            with contextlib.suppress(BlockingIOError):
                # The reset's sequence number is the segment's acknowledgement.
                self.heard = max(self.heard, struct.unpack_from("!I", self._sock.recv(128), 24)[0])
        return self.heard == self._sent

    def poke(self) -> bool:
        """Send a segment and return whether one was answered since the last call; wait for nothing.

        An answer is there when the next segment is sent: nothing is polled for.
        """
        self._send(_ACK)
        before = self.heard
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard = struct.unpack_from("!I", self._sock.recv(128), 24)[0]
        return self.heard > before

    def knock(self) -> None:
        """Send a SYN, and wait for nothing."""
        self._send(_SYN)

    def _send(self, flags: int) -> None:
        self._sent += 1
        head = (40_000, 25, 0, self._sent, 0x5000 | flags, 1024)  # ports, seq, ack, flags, window
        check = self._sum + sum(struct.unpack("!9H", struct.pack("!HHIIHHH", *head, 0)[:18]))
        while check >> 16:
            check = (check & 0xFFFF) + (check >> 16)
        self._sock.send(struct.pack("!HHIIHHHH", *head, ~check & 0xFFFF, 0))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def sources(trials: int) -> list[str]:
    """Return an address for each trial, each in a /24 of its own: no network is to be banned."""
    if trials > 512:
        raise ValueError("198.18.0.0/15 has 512 networks")
    return [f"198.{18 + n // 256}.{n % 256}.9" for n in range(trials)]


def prepare(write: Write, source: str) -> None:
    """Write all the lines of a source but the last.

    Each source has names of its own: an account that many guess is under attack.
    """
    users = [f"u{n}-{source}" for n in range(BEFORE)]
    write(logs.guesses(source, users, logs.stamp(time.time())))


def measure(write: Write, client: Namespace, source: str, seconds: float = _TRIAL_SECONDS) -> float:
    """Write the line that crosses the limit; return the seconds until a segment was dropped.

    Raises:
        RuntimeError: the source was dropped before, or is not dropped within `seconds`.
    """
    session = logs.guesses(source, [f"the-last-{source}"], logs.stamp(time.time()))
    opening, crossing, *_ = session.splitlines(keepends=True)
    probe = Probe(client, source)
    try:
        write(opening)
        _settle(probe, source)
        return _race(probe, write, crossing, source, seconds)
    finally:
        probe.close()


def _settle(probe: Probe, source: str) -> None:
    """Send for 20 ms, in which the line before is read: only one line is to be measured."""
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        if not probe.answered(_SURE_SECONDS):
            raise RuntimeError(f"{source} is dropped before it crossed a limit")


def _race(probe: Probe, write: Write, line: str, source: str, seconds: float) -> float:
    begin = probe.heard
    written = time.perf_counter()
    write(line)
    sent = []
    while True:
        sent.append(time.perf_counter())
        if probe.answered():
            continue
        sent.append(time.perf_counter())
        if not probe.answered(_SURE_SECONDS):  # nothing late either: a busy machine is no firewall
            return sent[probe.heard - begin] - written
        if sent[-1] - written > seconds:
            raise RuntimeError(f"{source} is not dropped within {seconds:g} s")


@contextlib.contextmanager
def knocking(client: Namespace, source: str, pause: float = 0.0) -> Iterator[list[float]]:
    """Knock from a banned client while the block runs; the list holds when it was answered.

    Args:
        client: where the source's address is.
        source: the banned client.
        pause: seconds between two knocks, besides what the wait for an answer takes.
    """
    heard: list[float] = []

    def knock() -> None:
        if probe.answered():
            heard.append(time.monotonic())

    with contextlib.closing(Probe(client, source)) as probe, meanwhile(knock, pause):
        yield heard


@contextlib.contextmanager
def meanwhile(step: Callable[[], None], pause: float) -> Iterator[None]:
    """Take a step again and again in a thread while the block runs, `pause` seconds before each."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(pause):
            step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
