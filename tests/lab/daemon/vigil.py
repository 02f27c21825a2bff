"""Watches whether a banned client is answered, at any instant.

A source that is banned sends a TCP segment to the server every few milliseconds; without the ban
the server's kernel answers each with a reset. Owns a thread and a raw socket. IPv4 only.
"""

import threading
import time
from types import TracebackType
from typing import Self

from lab.figures.latency import Probe
from lab.network.netns import Namespace

_EVERY = 0.002


class Vigil:
    """The watch over one source; a context manager."""

    def __init__(self, client: Namespace, source: str) -> None:
        self.source = source
        self.sent = 0
        #: When (monotonic clock) a segment was answered.
        self.answers: list[float] = []
        self._probe = Probe(client, source)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._probe.close()

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            self.sent += 1
            if self._probe.poke():
                self.answers.append(time.monotonic())
