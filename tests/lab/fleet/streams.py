"""Hosts of a fleet in one process: stores and pipelines are real, streams are lists."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC

from throttled.clock import Moment
from throttled.config.fleet import Fleet as Settings
from throttled.core.fleet import Fleet
from throttled.core.pipeline import Pipeline
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.fleet import frames, wire
from throttled.fleet.frames import Add, Names, Up
from throttled.fleet.wire import Entry, Row, Seal
from throttled.health.fleet import findings
from throttled.model import Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store, StoredPosition

WALL = 1_800_000_000.0
SERVER = 1_700_000_000_000  # milliseconds: another clock than the hosts'
NOW = Moment(WALL, 5_000.0)
SECRET = b"s" * 32


class Host:
    """A host, and the stream that it writes."""

    def __init__(self, name: str, settings: Settings | None = None) -> None:
        self.name = name
        self.store = Store.open(":memory:")
        backend = DryRun()
        backend.setup(Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 10_000))
        parser = Parser(UTC, WALL)
        self.pipeline = Pipeline(Policy(), Facts(), self.store, backend, parser)
        self.announced: list[Decision] = []
        self.settings = settings or Settings(site="lab")
        self.stream: list[tuple[str, bytes, bytes]] = []
        self.seal = Seal(SECRET, "lab", name)
        self.start()

    def start(self) -> None:
        """Begin as after a restart of the daemon."""
        self.fleet = Fleet(
            self.settings,
            self.name,
            SECRET,
            self.pipeline,
            positions=list[StoredPosition],
            announce=self.announced.extend,
            since=NOW.boot - 60.0,
        )

    def connect(self, now: Moment = NOW) -> None:
        last = self.stream[-1] if self.stream else None
        self.fleet.connected(Up(SERVER, frames.Server("7.0.15", "noeviction", "master"), last), now)

    def add(self, entry: Add) -> None:
        self.stream.append((f"{SERVER + len(self.stream)}-0", entry.data, entry.mac))

    def publish(self, now: Moment = NOW) -> None:
        while (entry := self.fleet.next(now)) is not None:
            self.add(entry)
            self.fleet.added(now)

    def say(self, number: int, *rows: Row, kind: str = "ban", before: int = 0) -> None:
        """Write an entry that the host itself would not."""
        self.add(Add(*wire.encode(self.seal, Entry(number, before, kind, rows))))

    def hear(self, other: "Host", now: Moment = NOW, server: int = SERVER) -> list[float]:
        """Process another's whole stream."""
        self.fleet.named(Names({other.name: "9999999999999-0"}), now)
        waits = []
        for entry in other.stream:
            for _ in self.fleet.inbox.steps(other.name, server, [entry], lambda: now):
                pass
            waits.append(self.fleet.inbox.pause(other.name, now.boot))
        return waits

    def bans(self, now: Moment = NOW) -> dict[str, str]:
        return {
            s.subject: s.origin for s in self.store.listing.snapshots(now.wall) if s.action == "ban"
        }

    def health(self, later: float = 0.0) -> set[str]:
        return {finding.key for finding in findings(self.fleet, NOW.boot + later)}


@contextmanager
def connected(name: str) -> Iterator[Host]:
    """Make a host that is connected to the Redis server."""
    host = Host(name)
    host.connect()
    yield host
    host.store.close()


def kinds(host: Host) -> list[str]:
    return [wire.decode(host.seal, data, mac).kind for _, data, mac in host.stream]
