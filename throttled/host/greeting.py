"""Talks to an instance's services: which of them greet a client? Owns no state.

Each is visited from this host, once unless a process of before a reload answers, and left with
QUIT. postscreen(8) lets a client wait for postscreen_greet_wait (6 s) unless it is in mynetworks;
port 465 speaks TLS first; a service behind a proxy says nothing until that has said for whom it
connects.
"""

import socket
import ssl
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from msgspec import Struct

from throttled import address
from throttled.host.answering import Process, answered
from throttled.host.postconf import Entry, Instance, split
from throttled.host.services import listening, port_of, proxy, wrapped

#: Seconds until a greeting has to be there: postscreen_greet_wait is 6 s, a busy host is slow.
SECONDS = 20.0
_LONGEST = 65_536
_READY = 220
_PAUSE = 0.05
_LOOPBACK = ("127.0.0.1", "::1")


class Endpoint(Struct, frozen=True):
    """Where a service listens."""

    name: str  # as in master.cf
    hosts: tuple[str, ...]  # addresses or names to try
    port: int
    tls: bool  # the client begins with a TLS handshake
    proxy: bool  # the client begins with HAProxy's line
    tag: str  # the syslog name of what answers


def endpoints(instance: Instance) -> Iterator[Endpoint]:
    """Yield the services of an instance that listen for SMTP, on loopback too."""
    for entry in listening(instance):
        port = port_of(entry.name)
        if port is not None:
            tls = wrapped(entry)
            tag = entry.parameters.get("syslog_name", "postfix")
            yield Endpoint(entry.name, _hosts(entry), port, tls, bool(proxy(entry)), tag)


def _hosts(entry: Entry) -> tuple[str, ...]:
    """Return addresses at which a service listens: loopback where it does so everywhere."""
    host, colon, _ = entry.name.rpartition(":")
    named = [host] if colon else split(entry.parameters.get("inet_interfaces", "all"))
    found = tuple(name.strip("[]") for name in named)
    return _LOOPBACK if {"all", "loopback-only"} & {*found} else found


def ask(
    services: Iterable[Endpoint], seconds: float = SECONDS, old: Collection[Process] = ()
) -> tuple[ThreadPoolExecutor, dict[Endpoint, "Future[int]"]]:
    """Visit services at the same time; return the pool and the codes that they greet with.

    Args:
        services: of an instance.
        seconds: until a greeting has to be there.
        old: processes whose greeting does not count: they have an earlier configuration.
    """
    wanted = list(services)
    pool = ThreadPoolExecutor(max(1, len(wanted)))
    return pool, {service: pool.submit(greeting, service, seconds, old) for service in wanted}


def greeting(service: Endpoint, seconds: float = SECONDS, old: Collection[Process] = ()) -> int:
    """Return the SMTP code with which a service greets; 0 where it does not; see `ask`."""
    end = time.monotonic() + seconds
    while (code := _visit(service, seconds, old)) is None:
        if time.monotonic() >= end:
            return 0
        time.sleep(_PAUSE)  # master(8) has not ended it yet
    return code


def _visit(service: Endpoint, seconds: float, old: Collection[Process]) -> int | None:
    """Return the code of one visit; None if an old process greeted."""
    for host in service.hosts:
        try:
            made = socket.create_connection((host, service.port), seconds)
            with made, begin(made, service) as connection:
                code = _code(connection)
                stale = code == _READY and answered(connection, old)
                with suppress(OSError):
                    connection.sendall(b"QUIT\r\n")
                    connection.recv(512)
                return None if stale else code
        except (OSError, ValueError):
            continue
    return 0


def begin(connection: socket.socket, service: Endpoint) -> socket.socket:
    """Say what a service expects before it greets: for whom a proxy connects, a TLS handshake."""
    if service.proxy:
        own, port = connection.getsockname()[:2]
        family = f"TCP{address.version(own)}"
        line = f"PROXY {family} {own} {own} {port} {service.port}\r\n"
        connection.sendall(line.encode("ascii"))
    return context().wrap_socket(connection) if service.tls else connection


def _code(connection: socket.socket) -> int:
    """Read a greeting to its last line."""
    text = b""
    while len(text) < _LONGEST:
        piece = connection.recv(4096)
        if not piece:
            return 0
        text += piece
        whole = text.endswith(b"\n")
        last = text.splitlines()[-1]
        if whole and last[3:4] != b"-":
            return int(last[:3])
    return 0


def context() -> ssl.SSLContext:
    """Return a context that takes any certificate: it is this host, and nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context
