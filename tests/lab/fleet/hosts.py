"""Hosts of a fleet: each a namespace with a log, a real daemon and its fleet process."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lab.daemon.daemon import Daemon, daemon
from lab.fleet.server import SITE, Server, process
from lab.network.netns import namespace, until
from throttled.model import Action

_MORE = """\
[log]
files = ["{home}/mail.log"]
[firewall]
ports = {{ mx = [25], submission = [587] }}
[sensor]
handshakes = false
[metrics]
listen = ""
[fleet]
site = "{site}"
name = "{name}"
server = "{url}"
secret = "{home}/fleet.key"
password = "{home}/fleet.password"
socket = "{home}/process.sock"
{more}
"""


class Host:
    """One host of the fleet."""

    def __init__(self, name: str, guard: Daemon) -> None:
        """Name a host whose daemon is configured and not started."""
        self.name = name
        self.guard = guard
        self.log = guard.home / "mail.log"

    def offend(self, *clients: str, count: int = 60) -> None:
        """Log what bans clients: not as Postfix would in a second, but by the default limits."""
        stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
        text = "warning: non-SMTP command from unknown[{}]: GET / HTTP/1.1"
        host = os.uname().nodename  # a line of another host does not count
        with self.log.open("a") as log:
            for client in clients:
                for pid in range(1, count + 1):
                    log.write(f"{stamp} {host} postfix/smtpd[{pid}]: {text.format(client)}\n")

    def actions(self, subject: str) -> set[tuple[Action, str]]:
        """Return what is active against a subject, and where it came from."""
        return {(row.action, row.origin) for row in self.guard.rows(subject)}

    def bans(self) -> dict[str, str]:
        """Return the origin of each ban."""
        return {row.subject: row.origin for row in self.guard.rows() if row.action == "ban"}

    def health(self) -> set[str]:
        """Return the keys of what is wrong."""
        return {finding.key for finding in self.guard.status().health}

    def banned(self, subject: str, origin: str) -> None:
        """Wait until a subject is banned from there."""
        until(
            lambda: ("ban", origin) in self.actions(subject),
            f"{subject} is not banned on {self.name}",
        )

    def in_kernel(self, subject: str) -> bool:
        """Return whether the kernel has an entry of an address."""
        listed = self.guard.server.run("nft", "list", "ruleset").stdout
        return any(f" {subject} " in f" {line} ".replace(",", " ") for line in listed.split("\n"))


@contextmanager
def hosts(server: Server, names: Sequence[str], more: str = "") -> Iterator[list[Host]]:
    """Run a daemon and a fleet process for each name."""
    with ExitStack() as stack:
        found = []
        for name in names:
            guard = stack.enter_context(
                daemon(stack.enter_context(namespace(name)), Path("/nonexistent"))
            )
            home = guard.home
            (home / "mail.log").touch()
            for file, content in (("fleet.key", b"s" * 32), ("fleet.password", name.encode())):
                (home / file).touch(0o600)
                (home / file).write_bytes(content)
            guard.configure(
                _MORE.format(home=home, site=SITE, name=name, url=server.url, more=more)
            )
            stack.enter_context(process(home / "process.sock"))
            guard.start()
            found.append(Host(name, guard))
        yield found
