"""Bans and unbans on three hosts while all that a fleet is made of is killed; then all agree.

What a host has not read when the Redis server is emptied is lost to it, and an unban counts where
the ban was read before. So both wait until all hosts agree; nothing else waits.
"""

import argparse
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from lab.fleet import server as lab
from lab.fleet.hosts import Host, acquainted, hosts
from lab.fleet.peer import published
from lab.fleet.server import Server
from lab.network.netns import directory, until

NAMES = ("mx1", "mx2", "mx3")
#: Seconds between ends that are the same: whole on the wire, and an entry that a stopped server
#: takes later has the time of then in its id.
_GRAIN = 10.0


class Soak:
    """A fleet, and what happens to it."""

    def __init__(self, server: Server, fleet: Sequence[Host], seed: int) -> None:
        """Begin with a fleet that runs."""
        self.server, self.fleet = server, fleet
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._banned: list[str] = []
        self._number = 0

    def step(self) -> None:
        """Let one thing happen."""
        events: list[tuple[int, Callable[[], None]]] = [
            (8, self._offence),
            (4, self._ban),
            (2, self._unban),
            (2, self._kill_server),
            (1, self._stop_server),
            (2, self._kill_process),
            (2, self._kill_daemon),
            (1, self._empty_server),
        ]
        weights = [weight for weight, _ in events]
        ((_, event),) = self._random.choices(events, weights)
        self.done[event.__name__.strip("_")] += 1
        event()

    def _client(self) -> str:
        self._number += 1
        self._banned.append(f"198.{18 + self._number // 250 % 2}.{self._number % 250}.7")
        return self._banned[-1]

    def _host(self) -> Host:
        host = self._random.choice(self.fleet)
        host.start()
        return host

    def _offence(self) -> None:
        self._host().offend(*(self._client() for _ in range(self._random.randint(1, 5))))

    def _ban(self) -> None:
        self._host().guard.command("ban", self._client(), "--for", "1h")

    def _unban(self) -> None:
        self.agree()
        if self._banned:
            subject = self._random.choice(self._banned)
            self._banned.remove(subject)
            self._host().guard.command("unban", subject)

    def _kill_server(self) -> None:
        self.server.kill()
        if self._random.random() < 0.5:
            self._offence()
        self.server.start()

    def _stop_server(self) -> None:
        self.server.signal(signal.SIGSTOP)
        self._offence()
        time.sleep(self._random.uniform(0, 4))  # a write times out after 2 s
        self.server.signal(signal.SIGCONT)

    def _kill_process(self) -> None:
        self._random.choice(self.fleet).process.kill()

    def _kill_daemon(self) -> None:
        self._random.choice(self.fleet).guard.kill()

    def _empty_server(self) -> None:
        self.agree()
        self.server.ask("FLUSHALL")

    def agree(self) -> None:
        """Start what does not run, and wait until all hosts and streams agree."""
        for host in self.fleet:
            host.start()
        try:
            until(lambda: not self.differences(), "all agree", 60)
        except TimeoutError as error:
            found = self.differences()
            length = [self.server.ask("XLEN", f"throttled:lab:log:{n}") for n in NAMES]
            text = f"{len(found)} differences: {found[:10]}; {self.done}; entries {length}"
            for host in self.fleet:
                text += "\n" + host.guard.command("fleet", "status").stdout
                text += host.guard.log.read_text()[-2000:]
            raise TimeoutError(text) from error

    def _whose(self, subject: str) -> list[str]:
        return [name for name in NAMES if subject in published(self.server, name)]

    def differences(self) -> list[str]:
        """Return in what hosts and streams differ."""
        known = [host.ends() for host in self.fleet]
        first, found = known[0], list[str]()
        for host, ends in zip(self.fleet, known, strict=True):
            found += [
                f"{host.name} and mx1: {key}, in the streams of {self._whose(key[0])}"
                for key in first.keys() ^ ends.keys()
            ]
            same = first.keys() & ends.keys()
            found += [f"{host.name}: {k}" for k in same if abs(first[k] - ends[k]) > _GRAIN]
            own = {s for s, origin in host.bans().items() if not origin.startswith("peer:")}
            own -= {subject for subject in own if "/" in subject}  # decisions of its own
            found += [
                f"stream of {host.name}: {s}" for s in own - published(self.server, host.name)
            ]
        active = {subject for subject, _ in first}
        return [*found, *(f"not banned: {s}" for s in set(self._banned) - active)]


def soak(seconds: float, seed: int) -> Counter[str]:
    """Return how often each thing happened.

    Raises:
        TimeoutError: hosts and streams do not agree.
    """
    with (
        directory("redis") as home,
        lab.server(home, NAMES) as server,
        hosts(server, NAMES) as fleet,
    ):
        acquainted(fleet)
        run = Soak(server, fleet, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run.step()
        run.agree()
        return run.done


def main() -> int:
    """Soak as long as asked, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for what, count in sorted(soak(asked.seconds, asked.seed).items()):
        print(f"{count:6} {what}")
    print("all hosts and streams agree")
    return 0
