"""Honest clients beside a botnet: a known good server, newcomers, a user who submits mail.

`python -m lab.mail.visitors KIND SECONDS VERSION`, in the client's namespace, prints a `Visits` as
JSON; `Visitors` does that from outside. Each message is a connection of its own. Newcomers come
from a network of their own each, and try again as a mail server does. Bounded.
"""

import asyncio
import base64
import contextlib
import itertools
import sys
import time
from typing import NamedTuple

import msgspec

from lab.mail.apart import Apart, print_result
from lab.mail.postfix import DOMAIN, HOST, PASSWORD, USER
from lab.network.netns import SERVER4, SERVER6, Namespace, source_socket

KNOWN = {4: "198.18.9.9", 6: "2001:db8:b:ffff::9"}
_USER = {4: "198.18.8.8", 6: "2001:db8:b:fffe::8"}
_FIXED = {"known": KNOWN, "user": _USER}
_CONNECT, _REPLY = 30.0, 60.0  # seconds: Postfix's own as a client, and far less than its 5 minutes


class Kind(NamedTuple):
    """How some clients behave."""

    every: float  # seconds between two messages
    port: int = 25
    retry: float = 0.0  # seconds after a failed try; 0: none


KINDS = {
    "known": Kind(0.25),
    "newcomer": Kind(1.0, retry=60.0),
    "newcomers": Kind(0.25, retry=60.0),
    "user": Kind(0.5, port=587),
}


class Visits(msgspec.Struct):
    """What became of messages."""

    began: float = 0.0  # time.monotonic(), which all processes share
    sent: int = 0
    #: Of each that was accepted: seconds since the start when it was written, and how long it took.
    accepted: list[tuple[float, float]] = msgspec.field(default_factory=list)
    #: Of each that is not: since how long it waits, or did when it was given up.
    others: list[tuple[float, float]] = msgspec.field(default_factory=list)
    first: int = 0  # accepted at the first try


def _source(kind: str, number: int, version: int) -> str:
    if kind in _FIXED:
        return _FIXED[kind][version]
    if version == 6:
        return f"2001:db8:b:{0xF000 + number % 0xF00:x}::5"
    return f"198.19.{160 + number % 96}.{5 + number // 96}"


async def _talk(source: str, port: int) -> bool:
    """Deliver one message; return whether it was accepted."""
    loop = asyncio.get_running_loop()
    sock = source_socket(source)
    sock.setblocking(False)
    writer = None
    try:
        async with asyncio.timeout(_CONNECT):
            await loop.sock_connect(sock, (SERVER6 if ":" in source else SERVER4, port))
        reader, writer = await asyncio.open_connection(sock=sock)
        for line, code in _lines(port):
            if line:
                writer.write(line)
            async with asyncio.timeout(_REPLY):
                while (reply := await reader.readline())[3:4] == b"-":
                    pass
            if reply[:3] != code:
                return False
        writer.write(b"QUIT\r\n")
        return True
    finally:
        if writer is not None:
            writer.close()
        sock.close()


def _lines(port: int) -> list[tuple[bytes, bytes]]:
    login = base64.b64encode(f"\0{USER}@{HOST}\0{PASSWORD}".encode())
    sender, recipient = ("friend@good.test", USER) if port == 25 else (f"{USER}@{DOMAIN}", "bob")
    lines = [(b"", b"220"), (b"EHLO good.test\r\n", b"250")]
    if port != 25:
        lines.append((b"AUTH PLAIN " + login + b"\r\n", b"235"))
    return [
        *lines,
        (f"MAIL FROM:<{sender}>\r\n".encode(), b"250"),
        (f"RCPT TO:<{recipient}@{DOMAIN}>\r\n".encode(), b"250"),
        (b"DATA\r\n", b"354"),
        (b"Subject: x\r\n\r\nHello.\r\n.\r\n", b"250"),
    ]


async def visit(name: str, seconds: float, version: int, stop: asyncio.Event) -> Visits:
    """Send messages for so long, then wait for those that are under way, until it is stopped."""
    kind, start = KINDS[name], time.monotonic()
    visits = Visits(began=start)

    async def message(number: int) -> None:
        written = time.monotonic()
        try:
            for attempt in itertools.count():
                with contextlib.suppress(OSError):
                    if await _talk(_source(name, number, version), kind.port):
                        visits.accepted.append((written - start, time.monotonic() - written))
                        visits.first += not attempt
                        return
                if not kind.retry:
                    break
                await asyncio.sleep(kind.retry)
        except asyncio.CancelledError:
            pass
        visits.others.append((written - start, time.monotonic() - written))

    tasks = []
    for number in itertools.count():
        tasks.append(asyncio.ensure_future(message(number)))
        visits.sent += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                stop.wait(), max(0.0, start + (number + 1) * kind.every - time.monotonic())
            )
        if stop.is_set() or time.monotonic() - start > seconds:
            break
    waiting = asyncio.ensure_future(stop.wait())
    everything = asyncio.ensure_future(asyncio.wait(tasks))
    await asyncio.wait({waiting, everything}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return visits


class Visitors(Apart[Visits]):
    """A run of this module in another process."""

    def __init__(self, client: Namespace, kind: str, seconds: float, version: int = 4) -> None:
        """Start it."""
        argv = kind, seconds, version
        super().__init__(client, "visitors", *argv, result=Visits, seconds=seconds)


def main(kind: str, seconds: str, version: str) -> None:
    """Visit, then print what became of it."""
    stop = asyncio.Event()
    asyncio.run(print_result(visit(kind, float(seconds), int(version), stop), stop))


if __name__ == "__main__":
    main(*sys.argv[1:])
