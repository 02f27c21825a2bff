"""A botnet: many addresses, each of which does nothing wrong. Open loop: it waits for nobody.

`python -m lab.mail.swarm KIND RATE SECONDS COUNT VERSION BEGINS THINKS`, in the client's namespace,
opens RATE connections a second for BEGINS of the SECONDS from COUNT addresses (IPv4: in at most 400
/24; IPv6: each in a /64 of its own) and prints a Report as JSON; `Swarm` does that from outside.
The kernel repeats SYNs, each bot gives up after `_PATIENCE`, and waits THINKS before every command.
One thread, one epoll. Bounded.
"""

import heapq
import ipaddress
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from lab.mail.apart import Apart
from lab.network.netns import SERVER4, SERVER6, Namespace, source_socket

THINKS = 0.3
_PATIENCE, _STAYS = 10.0, 60.0
_NETWORKS4 = 400
_FIRST4 = int(ipaddress.ip_address("198.18.16.0"))
_FIRST6 = int(ipaddress.ip_address("2001:db8:b::1"))
_TICK = 0.004
_MOST = 19_500  # sockets, 500 less than the files a process may have here; no more are tried

#: What a bot says, each after the reply to the one before; and after how many seconds the last of
#: them is said again and again.
KINDS: dict[str, tuple[list[bytes], float]] = {
    "quit": ([b"EHLO bot.test\r\n", b"QUIT\r\n"], 0.0),
    "rcpt": (
        [
            b"EHLO bot.test\r\n",
            b"MAIL FROM:<a@bot.test>\r\n",
            b"RCPT TO:<unknown@example.test>\r\n",
            b"QUIT\r\n",
        ],
        0.0,
    ),
    "silent": ([], 0.0),
    "noop": ([b"EHLO bot.test\r\n", b"NOOP\r\n"], 7.0),
}


class Report(msgspec.Struct):
    """What became of a run."""

    began: float = 0.0  # time.monotonic(), which all processes share
    tried: int = 0
    connected: int = 0
    greeted: int = 0
    done: int = 0  # sessions that said all
    lost: int = 0  # ended by the server before
    stayed: list[float] = []  # seconds of each of these since the greeting, to two digits
    given_up: int = 0  # no answer within `_PATIENCE`


class _Bot:
    __slots__ = ("gone", "greeted", "sock", "step", "waits")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.step = -1  # -1: not connected
        self.greeted = 0.0  # when
        self.waits = self.gone = False


def addresses(count: int, version: int) -> list[str]:
    """Return the addresses of a botnet."""
    if version == 6:
        return [str(ipaddress.ip_address(_FIRST6 + (n << 64))) for n in range(1, count + 1)]
    networks = min(_NETWORKS4, count)
    return [
        str(ipaddress.ip_address(_FIRST4 + (n % networks << 8) + 1 + n // networks))
        for n in range(count)
    ]


class _Run:
    def __init__(self, kind: str, rate: float, sources: list[str], thinks: float) -> None:
        self.lines, self.again = KINDS[kind]
        self.rate, self.sources, self.thinks = rate, sources, thinks
        self.target = SERVER6 if ":" in sources[0] else SERVER4
        self.report = Report()
        self.epoll = select.epoll()
        self.bots: dict[int, _Bot] = {}
        self.timers: list[tuple[float, int, _Bot, Callable[[_Bot], None]]] = []
        self.number = 0

    def run(self, seconds: float, begins: float, stopped: Callable[[], bool]) -> Report:
        """Open connections for `begins` seconds, and go on with them for the rest."""
        start = self.report.began = time.monotonic()
        while (now := time.monotonic()) < start + seconds and not stopped():
            for _ in range(int(min(begins, now - start) * self.rate) - self.report.tried):
                self._begin()
            for number, _ in self.epoll.poll(_TICK, 1000):
                if (bot := self.bots.get(number)) is not None:
                    self._ready(bot)
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                _, _, bot, act = heapq.heappop(self.timers)
                if not bot.gone:
                    act(bot)
        return self.report

    def _later(self, seconds: float, bot: _Bot, act: Callable[[_Bot], None]) -> None:
        self.number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.number, bot, act))

    def _begin(self) -> None:
        report = self.report
        source = self.sources[report.tried % len(self.sources)]
        report.tried += 1
        if len(self.bots) >= _MOST:
            return
        sock = source_socket(source)
        sock.setblocking(False)
        sock.connect_ex((self.target, 25))
        bot = self.bots[sock.fileno()] = _Bot(sock)
        self.epoll.register(sock, select.EPOLLOUT)
        self._later(_PATIENCE, bot, self._give_up)

    def _give_up(self, bot: _Bot) -> None:
        if not bot.greeted:
            self.report.given_up += 1
            self._end(bot)

    def _ready(self, bot: _Bot) -> None:
        if bot.step < 0:
            if bot.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._lose(bot)
                return
            bot.step = 0
            self.report.connected += 1
            self.epoll.modify(bot.sock, select.EPOLLIN)
            return
        try:
            data = bot.sock.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._lose(bot)
        elif data.endswith(b"\n"):
            self._replied(bot)

    def _replied(self, bot: _Bot) -> None:
        if not bot.greeted:
            bot.greeted = time.monotonic()
            self.report.greeted += 1
            self._later(_STAYS, bot, self._end)
        if bot.waits or not self.lines:
            return
        bot.waits = True
        self._later(self.again if bot.step >= len(self.lines) else self.thinks, bot, self._say)

    def _say(self, bot: _Bot) -> None:
        bot.waits = False
        line = self.lines[min(bot.step, len(self.lines) - 1)]
        bot.step += 1
        try:
            bot.sock.send(line)
        except OSError:
            self._lose(bot)
            return
        if bot.step == len(self.lines) and not self.again:
            self.report.done += 1
            self._end(bot)

    def _lose(self, bot: _Bot) -> None:
        self.report.lost += 1
        if bot.greeted:
            self.report.stayed.append(round(time.monotonic() - bot.greeted, 2))
        self._end(bot)

    def _end(self, bot: _Bot) -> None:
        if not bot.gone:
            bot.gone = True
            del self.bots[bot.sock.fileno()]
            bot.sock.close()


class Swarm(Apart[Report]):
    """A run of this module in another process."""

    def __init__(  # noqa: PLR0913, PLR0917 - what, how fast, how long, from how many
        self,
        client: Namespace,
        kind: str,
        rate: float,
        seconds: float,
        count: int,
        version: int = 4,
        begins: float | None = None,
        thinks: float = THINKS,
    ) -> None:
        """Start it; see the module."""
        argv = kind, rate, seconds, count, version, seconds if begins is None else begins, thinks
        super().__init__(client, "swarm", *argv, result=Report, seconds=seconds)


def main(  # noqa: PLR0913, PLR0917 - see `Swarm`
    kind: str, rate: str, seconds: str, count: str, version: str, begins: str, thinks: str
) -> None:
    """Attack, then print the report."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    run = _Run(kind, float(rate), addresses(int(count), int(version)), float(thinks))
    print(msgspec.json.encode(run.run(float(seconds), float(begins), lambda: bool(stop))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
