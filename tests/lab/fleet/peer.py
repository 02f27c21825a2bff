"""A host of a fleet that has the secret, and does what no daemon would."""

from collections.abc import Sequence
from typing import Any

import redis

from lab.fleet.hosts import SECRET
from lab.fleet.server import SITE, Server
from throttled.fleet import wire
from throttled.fleet.wire import Ban, Entry, Kind, Row, Seal, Unban
from throttled.model import Scope

_DEADMAN = 120.0


class Peer:
    """Writes into its own stream, as its user at the Redis server."""

    def __init__(self, server: Server, name: str) -> None:
        """Announce the peer."""
        self.name = name
        self.number = 0
        self.seal = Seal(SECRET, SITE, name)
        self.stream = wire.stream(SITE, name)
        self.client: Any = redis.Redis(
            unix_socket_path=str(server.socket),
            username=name,
            password=name,
            socket_timeout=_DEADMAN,  # 300 MB that the server writes to a busy disk
        )
        self.announce(name)

    def announce(self, *names: str) -> None:
        """Claim that there are hosts of these names."""
        self.client.hset(wire.roster(SITE), mapping=dict.fromkeys(names, "1"))

    def entry(self, kind: str, rows: Sequence[Row], number: int = 0) -> tuple[bytes, bytes]:
        """Return data and MAC of the next entry."""
        before, self.number = self.number, number or self.number + 1
        return wire.encode(self.seal, Entry(self.number, before, kind, rows))

    def add(self, data: bytes, mac: bytes, identity: str = "*") -> None:
        """Add an entry, whatever it is."""
        self.client.xadd(self.stream, {"d": data, "m": mac}, id=identity)

    def say(self, *rows: Row, kind: Kind = "ban", number: int = 0) -> None:
        """Add an entry with rows of one kind."""
        self.add(*self.entry(kind, rows, number))

    def ban(self, *subjects: str, seconds: int = 600, limit: str = "errors") -> None:
        """Ban subjects in both scopes, in as few entries as possible."""
        rows = [Ban(s, scope, seconds, limit, 1, 56, 50) for s in subjects for scope in _SCOPES]
        entries = [
            self.entry("ban", rows[first : first + wire.ROWS])
            for first in range(0, len(rows), wire.ROWS)
        ]
        with self.client.pipeline(transaction=False) as pipe:
            for data, mac in entries:
                pipe.xadd(self.stream, {"d": data, "m": mac})
            pipe.execute()


_SCOPES: Sequence[Scope] = ("mx", "submission")


def published(server: Server, name: str) -> set[str]:
    """Return what a host bans by its stream: each ban that no later entry unbans."""
    found: set[str] = set()
    with server.admin() as client:
        for _, fields in client.xrange(wire.stream(SITE, name)):
            entry = wire.decode(Seal(SECRET, SITE, name), fields[b"d"], fields[b"m"])
            for row in entry.rows:
                if isinstance(row, Ban):
                    found.add(row.subject)
                elif isinstance(row, Unban):
                    found.discard(row.subject)
    return found
