"""What can happen to a daemon in a night, each as a method: see `Disturbances.kinds`.

Owns what a disturbance leaves for later: a full disk to be emptied, a lock to be given back,
sockets that never end their request. The daemon's database must lie in `small`, a tmpfs of its own.
"""

import contextlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.daemon.daemon import Daemon
from lab.daemon.vigil import Vigil
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.control import client, requests

#: Seconds within which a ban must be active again after a change of the firewall.
BACK = 2.0
#: … within which a request must be answered.
ANSWERED = 5.0
_ERROR = 1.5  # seconds that a fault of the store lasts
_SLOW = 10  # clients of the control socket that never end their request
_FOREIGN = """\
flush ruleset
table inet filter { chain input { type filter hook input priority 0; policy accept; } }
"""
_BAD = '[limits.errors]\nhard = "fifty"\n'
#: Nothing of this may be taken for an event of a client, nor stop what follows.
_HOSTILE = (
    "\0" * 300,
    "x" * 100_000,
    "Nov 31 25:61:61 mx postfix/smtpd[1]: warning: non-SMTP command from unknown[203.0.113.77]: x",
    "Jan  1 00:00:00 else postfix/smtpd[1]: connect from unknown[203.0.113.77]",
    "2099-01-01T00:00:00+00:00 mx postfix/smtpd[1]: warning: unknown[]: SASL LOGIN",
    "\xff\xfe\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    "Nov 22 10:00:00 mx postfix/smtpd[1]: lost connection after HELO from unknown[198.18.0.0.0]",
)


class Disturbances:
    """All of them.

    Args:
        lab: the server.
        guard: the daemon; runs.
        vigil: watches a ban that was made manually.
        small: the tmpfs that the database is in.
        rng: chooses.
    """

    def __init__(
        self, lab: Lab, guard: Daemon, vigil: Vigil, small: Path, rng: random.Random
    ) -> None:
        self.counts: Counter[str] = Counter()
        #: What should not have been, found while disturbing.
        self.errors: list[str] = []
        #: When (monotonic clock) somebody touched the firewall.
        self.touched: list[float] = []
        self.starts: list[float] = []  # seconds until it said that it is ready
        self._lab = lab
        self._guard = guard
        self._vigil = vigil
        self._small = small
        self._rng = rng
        self._config = guard.config.read_text()
        self._slow: list[socket.socket] = []
        self._lock: sqlite3.Connection | None = None
        self._well_at = 0.0  # when a fault of the store is to end; 0.0: there is none
        self._queue: list[str] = []
        self.kinds: dict[str, Callable[[], None]] = {
            "killed (-9)": self._kill,
            "stopped, started": self._stop,
            "reloaded": self._reload,
            "bad configuration": self._bad_configuration,
            "log rotated": lab.mail.rotate,
            "hostile log lines": self._hostile_lines,
            "table flushed": self._firewall("flush table inet throttled"),
            "table deleted": self._firewall("delete table inet throttled"),
            "ruleset replaced": self._firewall(_FOREIGN),
            "set emptied": self._firewall("flush set inet throttled mx_ban4"),
            "element removed": self._firewall(
                f"delete element inet throttled mx_ban4 {{ {vigil.source} }}"
            ),
            "disk full": self._full_disk,
            "store locked": self._locked_store,
            "requests": self._requests,
            "malformed requests": self._malformed,
            "slow requests": self._never_ending,
        }

    def next(self) -> str:
        """Do one, chosen so that each has its turn, and return its name."""
        if not self._queue:
            self._queue = self._rng.sample(list(self.kinds), len(self.kinds))
        name = self._queue.pop()
        if name == "disk full":
            self.end(0.0)  # one fault of the store at a time
        self.kinds[name]()
        self.counts[name] += 1
        return name

    @property
    def well(self) -> bool:
        """Whether the store can do its work."""
        return not self._well_at

    def end(self, after: float = _ERROR) -> None:
        """End a fault of the store that has lasted for so many seconds."""
        if self._well_at and time.monotonic() >= self._well_at - _ERROR + after:
            self._well_at = 0.0
            self._small.joinpath("ballast").unlink(missing_ok=True)
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def close(self) -> None:
        """Take back what is left."""
        self.end(0.0)
        for sock in self._slow:
            sock.close()

    # The process

    def _kill(self) -> None:
        self._guard.kill()
        self._start()

    def _stop(self) -> None:
        if self._guard.stop() != 0:
            self.errors.append("it did not end well when it was stopped")
        self._start()

    def _start(self) -> None:
        begin = time.monotonic()
        self._guard.start()
        self.starts.append(time.monotonic() - begin)

    def _reload(self) -> None:
        with self._said("reloaded"):
            self._guard.signal(signal.SIGHUP)

    def _bad_configuration(self) -> None:
        self._guard.config.write_text(self._config + _BAD)
        with self._said("not reloaded"):
            self._guard.signal(signal.SIGHUP)
        self._guard.config.write_text(self._config)
        self._reload()  # the daemon is not well until then, and this may be the last mishap

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Wait until the daemon's log says something that it did not say before."""
        size = self._guard.log.stat().st_size
        yield

        def said() -> bool:
            with self._guard.log.open() as file:
                file.seek(size)
                return what in file.read()

        netns.until(said, f"the daemon says: {what}")

    # The log

    def _hostile_lines(self) -> None:
        with self._lab.mail.log.open("ab") as file:
            file.writelines(f"{each}\n".encode("latin-1") for each in _HOSTILE)

    # The firewall

    def _firewall(self, command: str) -> Callable[[], None]:
        def touch() -> None:
            self.touched.append(time.monotonic())
            # It may not be there just now: its repair is under way.
            self._lab.server.run("nft", "-f", "-", stdin=command, check=False)
            netns.until(
                lambda: time.monotonic() - max([*self._vigil.answers[-1:], self.touched[-1]]) > 0.3,
                "a banned client gets no answer",
                3 * BACK,
            )

        return touch

    # The store

    def _full_disk(self) -> None:
        self._well_at = time.monotonic() + _ERROR
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={self._small}/ballast", "bs=64k"],
            capture_output=True,
            check=False,  # it fails when the disk is full
        )

    def _locked_store(self) -> None:
        if self._lock is None:
            self._well_at = time.monotonic() + _ERROR
            path = self._small / "throttled.db"
            self._lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._lock.execute("BEGIN IMMEDIATE")

    # The control socket

    def _requests(self) -> None:
        subject = f"203.0.113.{self._rng.randrange(1, 255)}"
        asked: list[requests.Request] = [
            requests.Ping(),
            requests.Status(),
            requests.List(max=100),
            requests.Explain(self._vigil.source),
            requests.Allowed(),
        ]
        if self.well:
            asked += [requests.Ban(subject, seconds=60.0), requests.Unban(subject)]
        for each in asked:
            client.request(self._guard.socket, each, ANSWERED)

    def _malformed(self) -> None:
        for data in (
            os.urandom(300) + b"\n",
            b"[" * 60_000 + b"\n",
            b'{"op":"ban","subject":"everyone"}\n',
            b'{"op":"list","max":1e99}\n',
            b"x" * (requests.MAX_REQUEST + 1),
        ):
            with self._connected() as sock, contextlib.suppress(ConnectionError):
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):  # an error, or nothing; then the end
                    pass

    def _never_ending(self) -> None:
        sock = self._connected()
        sock.sendall(b'{"op":')
        self._slow = [sock, *self._slow[: _SLOW - 1]]

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(ANSWERED)
        sock.connect(str(self._guard.socket))
        return sock
