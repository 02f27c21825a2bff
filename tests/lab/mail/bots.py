"""Who talks to the lab's mail server: attackers, a good sender, a good user. Bounded in all ways.

`python -m lab.mail.bots KIND SECONDS ADDRESS…`, in the client's namespace, talks from each of the
addresses for so long, or until SIGTERM, and then prints a Report as JSON; `Bot` does that from
outside. One process and one event loop per kind. Owns no state beyond its run.
"""

import asyncio
import base64
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from lab.mail.apart import Apart, print_result
from lab.mail.postfix import DOMAIN, HOST, PASSWORD, USER
from lab.network.netns import SERVER4, SERVER6, Namespace, source_socket

_CONNECT_SECONDS = 4.0  # then a SYN is taken for dropped
_REPLY_SECONDS = 15.0
_RETRIES = 60

_STOP = asyncio.Event()  # set by SIGTERM


class Report(msgspec.Struct):
    """What became of a run."""

    began: float  # wall clock
    sessions: int = 0  # connections that were answered
    blocked: int = 0  # connections that were not
    answered: dict[str, float] = msgspec.field(default_factory=dict)  # wall clock, last by source
    sent: int = 0  # messages of a good sender or user
    tries: int = 0  # deliveries of these that were begun, retries included
    #: Seconds from when a message was written until the server had taken it, retries included.
    latencies: list[float] = msgspec.field(default_factory=list)


class Attack(NamedTuple):
    """One way to misbehave."""

    port: int
    lines: Callable[[int], list[str]]  # what the n-th session of a source says
    parallel: int  # sessions of one source at a time
    pause: float  # seconds between two sessions
    hold: float = 0.0  # seconds that a session lingers before it hangs up


def _guess(session: int) -> list[str]:
    users = (f"user{session}x{n}" for n in range(8))
    return ["EHLO bot.test", *(f"AUTH PLAIN {_plain(user, 'wrong')}" for user in users)]


def _letter(*recipients: str) -> list[str]:
    return [
        "EHLO bot.test",
        "MAIL FROM:<a@bot.test>",
        *(f"RCPT TO:<{each}>" for each in recipients),
    ]


#: Postfix itself slows a session down after 10 errors: each of these stays below.
ATTACKS = {
    "flood": Attack(25, lambda _: [], 3, 0.05, hold=0.05),
    "guess": Attack(587, _guess, 1, 0.3),
    "garbage": Attack(25, lambda _: ["EHLO bot.test", "XYZZY", "XYZZY", "GET / HTTP/1.1"], 1, 0.3),
    "relay": Attack(25, lambda _: _letter("a@else.test", "b@else.test", "c@else.test"), 1, 0.3),
    "harvest": Attack(25, lambda n: _letter(*(f"u{n}x{i}@{DOMAIN}" for i in range(8))), 1, 0.3),
}


class Session:
    """One SMTP session as a client sees it."""

    def __init__(self, source: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = source_socket(source)
        self._sock.setblocking(False)
        self._target = SERVER6 if ":" in source else SERVER4

    async def open(self, port: int) -> int:
        """Connect and return the code of the greeting; 0: the server hung up.

        Raises:
            TimeoutError: no answer to the SYN, or no greeting.
            OSError: refused or reset.
        """
        async with asyncio.timeout(_CONNECT_SECONDS):
            await self._loop.sock_connect(self._sock, (self._target, port))
        return await self._reply()

    async def say(self, line: str) -> int:
        """Send a line (or a whole message) and return the code of the reply; 0: hung up."""
        await self._loop.sock_sendall(self._sock, line.encode() + b"\r\n")
        return await self._reply()

    async def deliver(self, sender: str, recipient: str, text: str) -> bool:
        """Hand a message over, after EHLO; return whether the server took it."""
        for line, code in (
            (f"MAIL FROM:<{sender}>", 250),
            (f"RCPT TO:<{recipient}>", 250),
            ("DATA", 354),
            (f"{text}\r\n.", 250),
        ):
            if await self.say(line) != code:
                return False
        with contextlib.suppress(OSError):  # the server has the message, whatever follows
            await self.say("QUIT")
        return True

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    async def _reply(self) -> int:
        data = b""
        async with asyncio.timeout(_REPLY_SECONDS):
            while True:
                last = data.rstrip().rpartition(b"\n")[2]
                if data.endswith(b"\n") and last[3:4] != b"-":
                    return int(last[:3]) if last[:3].isdigit() else 0
                more = await self._loop.sock_recv(self._sock, 4096)
                if not more:
                    return 0
                data += more


async def attack(how: Attack, sources: Sequence[str], seconds: float) -> Report:
    """Misbehave from every source until the time is over."""
    report = Report(began=time.time())

    async def worker(source: str, numbers: "itertools.count[int]") -> None:
        for number in numbers:
            with contextlib.suppress(OSError):
                async with _session(source) as session:
                    try:
                        await session.open(how.port)
                    except TimeoutError:
                        report.blocked += 1
                        raise
                    report.sessions += 1
                    report.answered[source] = time.time()
                    for line in how.lines(number):
                        if not await session.say(line):
                            break
                    await asyncio.sleep(how.hold)
            await asyncio.sleep(how.pause)

    counters = [(source, itertools.count()) for source in sources]
    tasks = [asyncio.ensure_future(worker(*each)) for each in counters for _ in range(how.parallel)]
    stop = asyncio.ensure_future(_stopped(seconds))
    await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
    await _finish([*tasks, stop], 0.0)
    return report


async def correspond(
    sources: Sequence[str], seconds: float, port: int, every: float, patience: float
) -> Report:
    """Send a message every so often, from one source after the other, until the time is over.

    Each message is retried every second until it is taken, as a mail server's queue does, at most
    for `patience` seconds after the last. On a submission port it is sent by `alice`, logged in.
    """
    report = Report(began=time.time())
    end = time.monotonic() + seconds

    async def message(number: int, source: str) -> None:
        written = time.monotonic()
        for _ in range(_RETRIES):
            report.tries += 1
            if await _try_delivery(source, port, number):
                report.latencies.append(time.monotonic() - written)
                break
            await asyncio.sleep(1.0)

    tasks = []
    for number in itertools.count():
        tasks.append(asyncio.ensure_future(message(number, sources[number % len(sources)])))
        report.sent += 1
        if await _stopped(every) or time.monotonic() > end:
            break
    await _finish(tasks, patience)
    return report


async def _try_delivery(source: str, port: int, number: int) -> bool:
    user = f"{USER}@{HOST}"
    text = f"Subject: {number}\r\nMessage-ID: <{number}.{time.time_ns()}@{HOST}>\r\n\r\nHello."
    with contextlib.suppress(OSError):
        async with _session(source) as session:
            if await session.open(port) != 220 or await session.say("EHLO good.test") != 250:
                return False
            if port == 25:
                return await session.deliver("friend@good.test", f"{USER}@{DOMAIN}", text)
            login = f"AUTH PLAIN {_plain(user, PASSWORD)}"
            if await session.say(login) != 235:
                return False
            return await session.deliver(f"{USER}@{DOMAIN}", f"bob@{DOMAIN}", text)
    return False


@contextlib.asynccontextmanager
async def _session(source: str) -> AsyncIterator[Session]:
    session = Session(source)
    try:
        yield session
    finally:
        session.close()


async def _stopped(seconds: float) -> bool:
    """Wait for so long; return at once, and true, when asked to stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_STOP.wait(), seconds)
    return _STOP.is_set()


async def _finish(tasks: Sequence["asyncio.Future[Any]"], seconds: float) -> None:
    """Let tasks run for so long, then end them; an error in one is an error of the run."""
    done, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def _plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class Bot(Apart[Report]):
    """A run of this module in another process."""

    def __init__(
        self,
        client: Namespace,
        kind: str,
        seconds: float,
        sources: Sequence[str],
        patience: float = 0.0,
    ) -> None:
        """Start it; a sender's messages may take `patience` seconds where `seconds` are fewer."""
        patience = max(seconds, patience)
        argv = kind, seconds, patience, *sources
        super().__init__(client, "bots", *argv, result=Report, seconds=seconds + patience)


def main(kind: str, seconds: str, patience: str, *sources: str) -> None:
    """Talk, then print the report."""
    if kind == "sender":
        run = correspond(sources, float(seconds), 25, 0.25, float(patience))
    elif kind == "user":
        run = correspond(sources, float(seconds), 587, 1.0, float(patience))
    else:
        run = attack(ATTACKS[kind], sources, float(seconds))
    asyncio.run(print_result(run, _STOP))


if __name__ == "__main__":
    main(*sys.argv[1:])
