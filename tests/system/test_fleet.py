"""Three daemons in namespaces of their own, and a real Redis or Valkey server."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.fleet import server as lab
from lab.fleet.hosts import Host, hosts
from lab.fleet.server import Server
from lab.network.netns import until

pytestmark = [pytest.mark.root]

A = "198.51.100.7"
B = "203.0.113.9"
NAMES = ("mx1", "mx2", "mx3")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with lab.server(tmp_path / "server", NAMES) as made:
        yield made


@pytest.fixture
def fleet(server: Server) -> Iterator[list[Host]]:
    with hosts(server, NAMES) as made:
        yield made


def test_what_one_host_bans_all_hosts_ban(fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[0].banned(A, "log")
    for host in fleet[1:]:
        host.banned(A, "peer:mx1")
        until(lambda host=host: host.in_kernel(A), "not in the kernel")  # type: ignore[misc]


def test_an_unban_is_one_for_all(fleet: list[Host]) -> None:
    fleet[0].offend(A)
    for host in fleet[1:]:
        host.banned(A, "peer:mx1")
    assert fleet[2].guard.command("unban", A).returncode == 0
    for host in fleet:
        until(lambda host=host: not host.bans(), f"{host.name}")  # type: ignore[misc]
        assert not host.in_kernel(A)


def test_protection_is_of_each_host(fleet: list[Host]) -> None:
    assert fleet[1].guard.command("allow", A).returncode == 0
    fleet[0].offend(A, B)
    fleet[2].banned(A, "peer:mx1")
    fleet[1].banned(B, "peer:mx1")
    assert not fleet[1].actions(A)


def test_a_killed_server_stops_nothing_and_all_comes_when_it_is_back(
    server: Server, fleet: list[Host]
) -> None:
    server.kill()
    fleet[0].offend(A)
    fleet[0].banned(A, "log")
    server.start()
    for host in fleet[1:]:
        host.banned(A, "peer:mx1")


def test_a_stopped_server_stops_nothing(server: Server, fleet: list[Host]) -> None:
    server.signal(signal.SIGSTOP)
    try:
        fleet[0].offend(A)
        fleet[0].banned(A, "log")
    finally:
        server.signal(signal.SIGCONT)
    fleet[1].banned(A, "peer:mx1")


def test_an_emptied_server_is_filled_again(server: Server, fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[1].banned(A, "peer:mx1")
    assert fleet[1].guard.command("ban", B, "--for", "1h").returncode == 0
    fleet[0].banned(B, "peer:mx2")
    server.ask("FLUSHALL")
    server.kill()
    server.start()
    until(lambda: server.ask("EXISTS", "throttled:lab:log:mx1"), "mx1 did not publish again")
    until(lambda: server.ask("EXISTS", "throttled:lab:log:mx2"), "mx2 did not publish again")
    fleet[2].banned(A, "peer:mx1")
    fleet[2].banned(B, "peer:mx2")


def test_a_forged_entry_does_nothing_and_is_named(server: Server, fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[1].banned(A, "peer:mx1")
    server.ask("XADD", "throttled:lab:log:mx1", "*", "d", "forged", "m", "forged")
    until(lambda: "fleet-forged:mx1" in fleet[1].health(), "the forgery is not named")
    fleet[0].offend(B)
    fleet[1].banned(B, "peer:mx1")


def test_a_replayed_entry_does_nothing(server: Server, fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[1].banned(A, "peer:mx1")
    entries = server.ask("XRANGE", "throttled:lab:log:mx1", "-", "+")
    assert fleet[1].guard.command("unban", A).returncode == 0
    for host in fleet:
        until(lambda host=host: not host.bans(), f"{host.name}")  # type: ignore[misc]
    for _, fields in entries.items() if isinstance(entries, dict) else entries:
        flat = fields if isinstance(fields, list) else [x for pair in fields.items() for x in pair]
        server.ask("XADD", "throttled:lab:log:mx1", "*", *flat)
    fleet[0].offend(B)
    fleet[1].banned(B, "peer:mx1")
    assert not fleet[1].actions(A)


def test_a_killed_daemon_reads_on_and_publishes_on(fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[1].banned(A, "peer:mx1")
    fleet[1].guard.kill()
    fleet[0].offend(B)
    fleet[0].banned(B, "log")
    fleet[1].guard.start()
    fleet[1].banned(B, "peer:mx1")
    fleet[0].guard.kill()
    fleet[1].guard.command("ban", "198.51.100.99", "--for", "1h")
    fleet[0].guard.start()
    fleet[0].banned("198.51.100.99", "peer:mx2")


def test_the_command_shows_and_removes_what_came_from_a_host(fleet: list[Host]) -> None:
    fleet[0].offend(A)
    fleet[1].banned(A, "peer:mx1")
    status = fleet[1].guard.ask("fleet", "status")
    assert (status["site"], status["name"], status["connected"]) == ("lab", "mx2", True)
    peers = {peer["name"]: peer for peer in status["peers"]}
    assert peers["mx1"]["entries"] == 1
    assert [row["subject"] for row in fleet[1].guard.ask("list", "--from", "mx1")["rows"]] == [A]
    assert "peer:mx1" in fleet[1].guard.command("explain", A, "--json").stdout
    assert fleet[1].guard.command("fleet", "remove", "mx1", "--distrust").returncode == 0
    assert not fleet[1].bans()
    assert not fleet[1].in_kernel(A)
    fleet[0].offend(B)
    fleet[2].banned(B, "peer:mx1")
    assert not fleet[1].bans()
    assert fleet[1].guard.command("fleet", "trust", "mx1").returncode == 0
    fleet[1].banned(B, "peer:mx1")
