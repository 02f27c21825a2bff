"""A mail server in a whole machine, those who can reach it, and what a check needs of both."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from lab.machines.guest import Failed, Guest
from lab.machines.knock import knock
from lab.mail.bots import Bot
from lab.network import netns
from lab.network.netns import Namespace

#: The package, and its configuration.
PACKAGE = "postfix-throttled"
CONFIG = "/etc/throttled/throttled.toml"

#: The 9p tags (and mount points) of the packages and of this work tree.
SHARE, TREE = "packages", "tree"
#: Seconds for something that takes a second or less on a host that is not emulated.
PATIENCE = 400.0

_numbers = itertools.count(1)


class Site:
    """A machine, its clients, and the packages of this tree and of the commit before."""

    def __init__(self, guest: Guest, client: Namespace, tree: Path, before: Path) -> None:
        self.guest = guest
        self.client = client
        self.tree = tree.name
        self.before = before.name

    def run(self, command: str, seconds: float = PATIENCE) -> str:
        """Run a command in the machine; see `Guest.run`."""
        return self.guest.run(command, seconds)

    def source(self, *, v6: bool = False) -> str:
        """Return an address, in a network of its own, that has done nothing yet."""
        number = next(_numbers)
        return f"2001:db8:b:{number:x}::7" if v6 else f"198.18.{number}.7"

    def until(self, command: str, what: str, seconds: float = PATIENCE) -> None:
        """Wait until a command in the machine succeeds.

        Raises:
            Failed: not within `seconds`; the text says what did not happen.
        """
        loop = f"timeout {seconds:.0f} bash -c {quote(f'until {command}; do sleep 1; done')}"
        if not self.guest.succeeds(loop, seconds + 60.0):
            log = "journalctl --no-pager -q -o short-iso"
            state = self.run(
                f"{log} -u throttled -n 12; {log} --facility mail -n 6; throttled status || true"
            )
            raise Failed(f"not within {seconds:g} s: {what}:\n{state}")

    def install(self, package: str) -> None:
        """Install a package of the share with apt, as an administrator does."""
        self.run(f"cp /{SHARE}/{package} /var/tmp/throttled.deb")
        # libbpf1 is recommended: apt installs it too where it has the defaults.
        self.run("apt-get install --yes --allow-downgrades /var/tmp/throttled.deb libbpf1", 900.0)
        self.run("rm /var/tmp/throttled.deb; systemctl is-active throttled")

    def json(self, command: str) -> Any:
        """Return what a command of throttled prints with `--json`."""
        return json.loads(self.run(f"throttled {command} --json"))

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.run(f"systemctl show --value -p {name} throttled").strip()

    def attack(self, source: str, kind: str = "garbage") -> None:
        """Let a source misbehave until it is banned, and check that it is stopped.

        Raises:
            Failed: it is not banned, or its SYNs are answered.
        """
        bot = Bot(self.client, kind, 2 * PATIENCE, [source])
        # Waits for the line; this journalctl ends with the next one, which nobody reads.
        log = "exec journalctl -q -f --no-tail -o cat -u throttled 2>/dev/null"
        try:
            self.until(f"grep -qE '(^| )ban {source} ' < <({log})", f"{source} is banned")
        finally:
            bot.end()
        self.stopped(source)

    def stopped(self, source: str) -> None:
        """Check that none of a source's SYNs are answered.

        Raises:
            Failed: some are.
        """
        # The line in the journal comes before the kernel has it: "record, then apply".
        netns.until(lambda: knock(self.client, source, 3).answered == 0, f"{source} is stopped")
        knocks = knock(self.client, source, 40)
        if knocks.answered:
            raise Failed(f"{source}: {knocks.answered} of {knocks.sent} SYNs answered")

    def reachable(self, source: str) -> None:
        """Check that a source's SYNs are answered.

        Raises:
            TimeoutError: they are not.
        """
        netns.until(lambda: knock(self.client, source, 3).answered == 3, f"{source} is answered")

    def good(self, *, v6: bool = False) -> None:
        """Check that a good sender's messages are all taken and it is neither throttled nor banned.

        Raises:
            Failed: not so.
        """
        source = self.source(v6=v6)
        report = Bot(self.client, "sender", 3.0, [source], PATIENCE).report()
        if len(report.latencies) < report.sent:
            raise Failed(f"good sender: {len(report.latencies)} of {report.sent} messages taken")
        if self.guest.succeeds(f"throttled list {source}"):
            raise Failed(f"good sender {source} is throttled or banned")

    @contextmanager
    def backend(self, name: str) -> Iterator[None]:
        """Let the daemon use a backend meanwhile."""
        self.run(f"cp -p {CONFIG} /var/tmp/throttled.toml")
        self.run(f"""sed -i 's/^#*backend = .*/backend = "{name}"/' {CONFIG}""")
        with self.undone(f"mv /var/tmp/throttled.toml {CONFIG}; systemctl restart throttled"):
            self.run("systemctl restart throttled")
            if (found := self.json("status")["backend"]) != name:
                raise Failed(f"the backend is {found}")
            yield

    @contextmanager
    def undone(self, command: str) -> Iterator[None]:
        """Run a command in the machine after the block; not after ^C, the machine ends then."""
        try:
            yield
        except Exception:
            self.run(command)
            raise
        self.run(command)
