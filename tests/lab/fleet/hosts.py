"""Hosts of a fleet: each a namespace with a log, a real daemon and its fleet process."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lab.daemon.daemon import Daemon, daemon
from lab.fleet.server import SITE, Process, Server
from lab.network.netns import Namespace, namespace, until
from throttled.control import client
from throttled.control.requests import FleetStatus
from throttled.model import Action

#: Makes clients, each in a network of its own.
Client = Callable[[], str]

SECRET = b"s" * 32
#: Debian's library of the package faketime; another clock for one program.
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

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
_LOGIN = "{}: client=unknown[{}], sasl_method=PLAIN, sasl_username=user@example.org"


class Host:
    """One host of the fleet."""

    def __init__(self, name: str, guard: Daemon) -> None:
        """Name a host whose daemon is configured and not started."""
        self.name = name
        self.guard = guard
        self.log = guard.home / "mail.log"
        self.process = Process(guard.home / "process.sock")
        self.ahead = 0.0  # seconds that its clock is

    def start(self) -> None:
        """Start what does not run of the daemon and its fleet process."""
        if self.process.ended():
            self.process.start()
        if self.guard.ended():
            self.guard.start()

    def kill(self) -> None:
        """End both as a crash would."""
        self.guard.kill()
        self.process.kill()

    def reinstall(self) -> None:
        """Start the daemon anew without its database: a host that was installed anew."""
        self.guard.kill()
        for path in self.guard.home.glob("throttled.db*"):
            path.unlink()
        self.guard.server.run("nft", "flush", "ruleset")
        self.log.write_text("")
        self.guard.start()

    def set_clock(self, ahead: float) -> None:
        """Give the daemon, from its next start, a clock that is so many seconds ahead."""
        self.ahead = ahead
        self.guard.within = (
            "env",
            f"LD_PRELOAD={FAKETIME}",
            f"FAKETIME={ahead:+.0f}",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    def _write(self, lines: Sequence[str]) -> None:
        now = datetime.fromtimestamp(time.time() + self.ahead, UTC)
        stamp, host = now.isoformat(timespec="microseconds"), os.uname().nodename
        with self.log.open("a") as log:
            log.writelines(f"{stamp} {host} {line}\n" for line in lines)

    def offend(self, *clients: str, count: int = 60) -> None:
        """Log what bans clients: not as Postfix would in a second, but by the default limits."""
        text = "postfix/smtpd[{}]: warning: non-SMTP command from unknown[{}]: GET / HTTP/1.1"
        pids = range(1, count + 1)
        self._write([text.format(pid, client) for client in clients for pid in pids])

    def guess(self, client: str, *names: str) -> None:
        """Log that a client tried user names."""
        text = "postfix/submission/smtpd[98]: warning: unknown[{}]: SASL LOGIN authentication "
        text += "failed: authentication failure, sasl_username={}"
        self._write([text.format(client, name) for name in names])

    def log_in(self, client: str) -> None:
        """Log that a client logged in: good evidence."""
        self._write(["postfix/submission/smtpd[99]: " + _LOGIN.format("4c7Hqs0GkQz9", client)])

    def actions(self, subject: str) -> set[tuple[Action, str]]:
        """Return what is active against a subject, and where it came from."""
        return {(r.action, r.origin) for r in self.guard.rows(subject) if r.subject == subject}

    def bans(self) -> dict[str, str]:
        """Return the origin of each ban."""
        return {row.subject: row.origin for row in self.guard.rows() if row.action == "ban"}

    def ends(self) -> dict[tuple[str, str], float]:
        """Return when each ban ends, by the clock of the tests."""
        rows = self.guard.rows()
        return {(r.subject, r.scope): r.until - self.ahead for r in rows if r.action == "ban"}

    def health(self) -> set[str]:
        """Return the keys of what is wrong."""
        return {finding.key for finding in self.guard.status().health}

    def banned(self, subject: str, origin: str) -> None:
        """Wait until a subject is banned from there."""
        self._until(lambda: ("ban", origin) in self.actions(subject), f"{subject} is not banned")

    def throttled(self, subject: str, origin: str) -> None:
        """Wait until a subject is throttled from there."""
        has = ("throttle", origin)
        self._until(lambda: has in self.actions(subject), f"{subject} is not throttled")

    def free(self, *subjects: str) -> None:
        """Wait until nothing is active against subjects but exemptions."""

        def free() -> bool:
            active = {action for subject in subjects for action, _ in self.actions(subject)}
            return active <= {"exempt"}

        self._until(free, f"{subjects}: something is active")

    def enforces(self, subject: str, *, banned: bool = True) -> None:
        """Wait until the kernel bans an address at port 25, or does not."""
        what = f"the kernel {'does not ban' if banned else 'bans'} {subject}"
        self._until(lambda: self.in_kernel(subject) == banned, what)

    def in_kernel(self, subject: str) -> bool:
        """Return whether the kernel bans an address."""
        listed = self.guard.server.run("nft", "list", "set", "inet", "throttled", "mx_ban4").stdout
        return f" {subject} " in listed.replace(",", " ").replace("\n", " ").replace("\t", " ")

    def status(self) -> Any:
        """Return what `throttled fleet status --json` prints, asked over the socket: 1 ms."""
        return msgspec.to_builtins(client.request(self.guard.socket, FleetStatus()))

    def peer(self, name: str) -> Any:
        """Return what it says about a peer; {}: it knows none of this name."""
        return {peer["name"]: peer for peer in self.status()["peers"]}.get(name, {})

    def received(self, peer: str, outcome: str, count: int = 1) -> None:
        """Wait until so many rows of a peer had an outcome."""

        def received() -> bool:
            found: int = self.peer(peer).get("outcomes", {}).get(outcome, 0)
            return found >= count

        self._until(received, f"no {count} {outcome} of {peer}")

    def connected(self) -> None:
        """Wait until the fleet process is connected to the Redis server."""
        self._until(lambda: self.status()["connected"], "not connected")

    def says(self, text: str, *argv: str) -> str:
        """Wait until a command prints a text, and return all that it prints then."""
        found: list[str] = []

        def said() -> bool:
            done = self.guard.command(*argv)
            found[:] = [done.stdout + done.stderr]
            return text in found[0]

        try:
            self._until(said, f"throttled {' '.join(argv)} does not say: {text}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{''.join(found)}") from error
        return found[0]

    def _until(self, happened: Callable[[], object], what: str) -> None:
        until(happened, f"{self.name}: {what}")


@contextmanager
def configured(server: Server, name: str, where: Namespace, more: str = "") -> Iterator[Host]:
    """Configure a host in a namespace; nothing of it runs yet."""
    with daemon(where, Path("/nonexistent")) as guard:
        host = Host(name, guard)
        home = guard.home
        host.log.touch()
        for file, content in (("fleet.key", SECRET), ("fleet.password", name.encode())):
            (home / file).touch(0o600)
            (home / file).write_bytes(content)
        guard.configure(_MORE.format(home=home, site=SITE, name=name, url=server.url, more=more))
        try:
            yield host
        finally:
            host.process.kill()


@contextmanager
def hosts(
    server: Server, names: Sequence[str], more: str = "", *, ahead: Sequence[float] = ()
) -> Iterator[list[Host]]:
    """Run a daemon and a fleet process for each name, until each knows all others.

    Args:
        server: runs.
        names: of the hosts.
        more: of the configuration; the end of its table [fleet].
        ahead: seconds that the clock of each host is ahead; empty: no clock is.
    """
    with ExitStack() as stack:
        found = []
        for name, seconds in itertools.zip_longest(names, ahead, fillvalue=0.0):
            where = stack.enter_context(namespace(str(name)))
            host = stack.enter_context(configured(server, str(name), where, more))
            if seconds:
                host.set_clock(float(seconds))
            found.append(host)
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(Host.start, found))
        yield found


def acquainted(found: Sequence[Host], *others: str) -> None:
    """Wait until each host knows all others: it looks for them each ten seconds."""
    names = {*others, *(host.name for host in found)}
    for host in found:
        expected = names - {host.name}
        until(
            lambda h=host, e=expected: e <= {p["name"] for p in h.status()["peers"]},  # type: ignore[misc]
            f"{host.name} does not know {expected}",
        )
