"""Simulated hosts of a fleet: each publishes ten bans a second and reads the streams of all.

They read as `throttled.fleet.process` does: one blocking XREAD over all streams, and after each
answer up to 5 ms for the daemon. A ban is an entry, as where bans come one by one. Bytes of the
protocol are made and searched here: a client library would need more processors than the Redis
server. Run in processes of their own. Owns its connections.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import Sequence

from throttled.fleet import wire
from throttled.fleet.wire import Ban, Entry, Seal

_SITE = "lab"
_A_SECOND = 10.0
_TAKING = 0.005
_FOUND = re.compile(rb"\r\n(?:throttled:lab:log:([^\r]+)|(\d{13}-\d+))(?=\r\n)")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(path: str, own: Sequence[str], names: Sequence[str]) -> None:
    """Simulate some hosts until the process is killed.

    Args:
        path: of the Redis server's UNIX socket.
        own: names of these hosts.
        names: of all hosts.
    """
    asyncio.run(_all(path, own, names))


async def _all(path: str, own: Sequence[str], names: Sequence[str]) -> None:
    await asyncio.gather(*(job(path, name, names) for name in own for job in (_publish, _read)))


async def _connect(path: str, name: str) -> Connection:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(_command("AUTH", name, name))
    if await reader.readline() != b"+OK\r\n":
        raise PermissionError(name)
    return reader, writer


def _command(*words: str | bytes) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)])


async def _publish(path: str, name: str, _names: Sequence[str]) -> None:
    seal, stream = Seal(b"s" * 32, _SITE, name), wire.stream(_SITE, name)
    number = 0
    reader, writer = await _connect(path, name)
    due = time.monotonic() + random.random() / _A_SECOND
    while True:
        await asyncio.sleep(due - time.monotonic())
        due += 1 / _A_SECOND
        number += 1
        subject = f"100.{64 + number % 64}.{os.getpid() % 256}.{number % 256}"
        row = Ban(subject, "mx", 3600, "errors", 1, 56, 50)
        data, mac = wire.encode(seal, Entry(number, number - 1, "ban", [row]))
        oldest = f"{int((time.time() - 86400) * 1000)}-0"
        writer.write(_command("XADD", stream, "MINID", "~", oldest, "*", "d", data, "m", mac))
        await reader.readline()  # the length of the id
        await reader.readline()


async def _read(path: str, name: str, names: Sequence[str]) -> None:
    after = {other.encode(): b"0-0" for other in names if other != name}
    head = ("XREAD", "COUNT", "128", "BLOCK", "5000", "STREAMS")
    streams = [b"throttled:lab:log:" + other for other in after]
    reader, writer = await _connect(path, name)
    while True:
        writer.write(_command(*head, *streams, *after.values()))
        answer = await reader.read(1 << 18)
        while not answer.endswith(b"\r\n"):  # nearly always whole
            answer += await reader.read(1 << 18)
        stream = b""
        for match in _FOUND.finditer(answer):
            if match[1]:
                stream = match[1]
            else:
                after[stream] = match[2]
        await asyncio.sleep(_TAKING)
