"""The real daemon, run in the lab: `throttled run` in the server's namespace, and its commands.

Its configuration says where the lab's Postfix, database and socket are, and nothing else, so that
every limit is the default. Owns the process and a directory; the log of the daemon is in it.
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.machine.program import Program
from lab.network.netns import DEADMAN, Namespace, directory
from throttled.control import client, requests, results
from throttled.model import Decision, Scope, Snapshot

THROTTLED = str(Path(sys.executable).with_name("throttled"))
_TESTS = str(Path(__file__).parents[2])

_CONFIG = """\
[postfix]
config_directories = [{postfix}]
[store]
path = "{home}/throttled.db"
[control]
socket = "{home}/control.sock"
"""


class Daemon(Program):
    """A configuration, and the daemon that runs with it or does not."""

    def __init__(self, server: Namespace, home: Path, postfix: Path, more: str = "") -> None:
        """Write the configuration.

        Args:
            server: where it runs.
            home: a directory of its own.
            postfix: the configuration directory of the Postfix to protect.
            more: TOML to put behind what the lab needs.
        """
        self.server = server
        self.home = home
        self.config = home / "throttled.toml"
        self.log = home / "daemon.log"
        self.socket = home / "control.sock"
        #: What is run; put something else in front or in its place.
        self.program: Sequence[str] = (THROTTLED,)
        #: What its commands are run by: a place of their own.
        self.within: Sequence[str] = ()
        self._base = _CONFIG.format(home=home, postfix=json.dumps(str(postfix)))
        self.configure(more)

    def configure(self, more: str) -> None:
        """Write the configuration anew; SIGHUP or a restart makes it count."""
        self.config.write_text(self._base + more)

    def start(self, *options: str, seconds: float = DEADMAN) -> None:
        """Start it (`run` with options) and wait until it says that it is ready, as systemd would.

        Raises:
            RuntimeError: it ended, or did not get ready; the text is its log. It runs already.
        """
        if not self.ended():  # nobody would wait for it: a ResourceWarning in a later test
            raise RuntimeError("the daemon runs already")
        path = self.home / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.log.open("a") as log:
            notify.bind(str(path))
            notify.settimeout(0.2)
            self._process = self.server.popen(
                [*self.within, *self.program, "--config", str(self.config), "run", *options],
                env={"NOTIFY_SOCKET": str(path), "PYTHONPATH": _TESTS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            for _ in range(int(seconds / 0.2)):
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in notify.recv(4096):
                        return
                if self._process.poll() is not None:
                    break
        self.kill()
        raise RuntimeError(f"the daemon did not start:\n{self.log.read_text()}")

    def stop(self, seconds: float = DEADMAN) -> int:
        """End it as systemd would and return its exit code; idempotent.

        Raises:
            subprocess.TimeoutExpired: it did not end; it is killed.
        """
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds) if self._process else 0
        finally:
            self.kill()

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands and return what it printed; failing is not an error here."""
        words = (*self.within, THROTTLED, "--config", str(self.config), *argv)
        return self.server.run(*words, check=False)

    def ask(self, *argv: str) -> Any:
        """Run one of its commands with `--json` and return what it answered.

        Raises:
            RuntimeError: the command failed.
        """
        done = self.command(*argv, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"throttled {' '.join(argv)}: {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def rows(self, within: str | None = None, scope: Scope | None = None) -> list[Snapshot]:
        """Return what it says is active, asked over its socket: 1 ms."""
        asked = requests.List(scope=scope, within=within, max=requests.MAX_ROWS)
        answer = client.request(self.socket, asked)
        assert isinstance(answer, results.ListResult)
        return answer.rows

    def status(self) -> results.StatusResult:
        """Return how it is."""
        answer = client.request(self.socket, requests.Status())
        assert isinstance(answer, results.StatusResult)
        return answer

    def decisions(self, subject: str) -> list[Decision]:
        """Return what it decided about a subject, newest first."""
        answer = client.request(self.socket, requests.Explain(subject))
        assert isinstance(answer, results.ExplainResult)
        return answer.decisions


@contextlib.contextmanager
def daemon(server: Namespace, postfix: Path, more: str = "") -> Iterator[Daemon]:
    """Prepare a daemon for a Postfix; it is not started yet, and ended at the end."""
    with directory("daemon") as home:
        made = Daemon(server, home, postfix, more)
        try:
            yield made
        finally:
            made.kill()
