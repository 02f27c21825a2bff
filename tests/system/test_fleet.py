"""Three daemons in namespaces of their own share bans over a real Redis server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.fleet import server as lab
from lab.fleet.hosts import FAKETIME, Client, Host, acquainted, hosts
from lab.fleet.server import Server
from lab.network.netns import directory, until

pytestmark = [pytest.mark.root]

NAMES = ("mx1", "mx2", "mx3")
#: Seconds that the clocks of the hosts are ahead, where there is a program to do that.
CLOCKS = (0.0, 3600.0, -3600.0) if FAKETIME.exists() else ()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with directory("redis") as home, lab.server(home, NAMES) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(server: Server) -> Iterator[list[Host]]:
    with hosts(server, NAMES, ahead=CLOCKS) as made:
        acquainted(made)
        yield made


def test_what_one_host_bans_all_hosts_ban(fleet: list[Host], client: Client) -> None:
    bot = client()
    fleet[0].offend(bot)
    fleet[0].banned(bot, "log")
    for host in fleet[1:]:
        host.banned(bot, "peer:mx1")
        host.enforces(bot)


def test_names_that_a_bot_tries_on_several_hosts_add_up(fleet: list[Host], client: Client) -> None:
    """Each host alone sees 8 names, and bans above 20."""
    bot, other = client(), client()
    for number, host in enumerate(fleet):
        host.guess(bot, *(f"user{number}-{name}@example.org" for name in range(8)))
        host.guess(other, *(f"same{name}@example.org" for name in range(8)))
    for host in fleet:
        until(lambda h=host: "ban" in {a for a, _ in h.actions(bot)}, f"{host.name}: not banned")  # type: ignore[misc]
        assert "ban" not in {action for action, _ in host.actions(other)}


@pytest.mark.skipif(not CLOCKS, reason="no faketime: apt-get install faketime")
def test_clocks_an_hour_apart_do_not_matter(fleet: list[Host], client: Client) -> None:
    for ahead, host in zip(CLOCKS, fleet, strict=True):
        bot = client()
        assert host.guard.command("ban", bot, "--for", "600s").returncode == 0
        for other in fleet:
            if other is not host:
                other.banned(bot, f"peer:{host.name}")
        ends = [end for each in fleet for (who, _), end in each.ends().items() if who == bot]
        assert len(ends) == 6
        assert max(ends) - min(ends) <= 2.0, (ahead, ends)


def test_an_operators_ban_of_a_small_network_is_shared_and_no_wider_one(
    fleet: list[Host],
) -> None:
    for network in ("198.19.4.0/24", "2001:db8:7::/48", "198.19.16.0/23", "2001:db8:80::/47"):
        assert fleet[0].guard.command("ban", network, "--for", "1h").returncode == 0
    for host in fleet[1:]:
        host.banned("198.19.4.0/24", "peer:mx1")
        host.banned("2001:db8:7::/48", "peer:mx1")
        host.received("mx1", "refused", 4)
        assert not {"198.19.16.0/23", "2001:db8:80::/47"} & host.bans().keys()


def test_an_unban_is_one_for_all_with_its_exemption(fleet: list[Host], client: Client) -> None:
    bot = client()
    fleet[0].offend(bot)
    for host in fleet[1:]:
        host.banned(bot, "peer:mx1")
    assert fleet[2].guard.command("unban", bot, "--for", "10m").returncode == 0
    for host in fleet:
        host.free(bot)
        host.enforces(bot, banned=False)
    fleet[1].offend(bot, count=120)
    last = client()
    fleet[1].offend(last)
    fleet[1].banned(last, "log")
    assert not {action for action, _ in fleet[1].actions(bot)} - {"exempt"}


def test_protection_is_of_each_host(fleet: list[Host], client: Client) -> None:
    friend, bot = client(), client()
    assert fleet[1].guard.command("allow", friend).returncode == 0
    fleet[0].offend(friend, bot)
    fleet[2].banned(friend, "peer:mx1")
    fleet[1].banned(bot, "peer:mx1")
    assert not fleet[1].actions(friend)


def test_who_is_allowed_later_is_not_acted_on_any_longer(fleet: list[Host], client: Client) -> None:
    friend = client()
    fleet[0].offend(friend)
    fleet[1].banned(friend, "peer:mx1")
    assert fleet[1].guard.command("allow", friend).returncode == 0
    fleet[1].free(friend)
    assert ("ban", "peer:mx1") in fleet[2].actions(friend)


def test_one_with_good_history_here_is_throttled_here(fleet: list[Host], client: Client) -> None:
    user = client()
    fleet[1].log_in(user)
    until(lambda: "login" in fleet[1].guard.command("explain", user).stdout, "the login is known")
    fleet[0].offend(user)
    fleet[2].banned(user, "peer:mx1")
    fleet[1].throttled(user, "peer:mx1")


def test_throttles_and_network_decisions_stay_here(fleet: list[Host], client: Client) -> None:
    assert fleet[0].guard.command("throttle", "198.19.8.7", "--for", "1h").returncode == 0
    net = [f"198.19.9.{number}" for number in range(1, 14)]
    fleet[0].offend(*net)
    until(lambda: "198.19.9.0/24" in fleet[0].bans(), "the network is banned")
    last = client()
    fleet[0].offend(last)
    for host in fleet[1:]:
        host.banned(last, "peer:mx1")
        assert set(net) <= host.bans().keys()
        assert "198.19.9.0/24" not in host.bans()
        assert not host.actions("198.19.8.7")


def test_a_killed_daemon_reads_on_and_publishes_on(fleet: list[Host], client: Client) -> None:
    before, meanwhile, after = client(), client(), client()
    fleet[0].offend(before)
    fleet[1].banned(before, "peer:mx1")
    fleet[1].guard.kill()
    fleet[0].offend(meanwhile)
    fleet[0].banned(meanwhile, "log")
    fleet[1].guard.start()
    fleet[1].banned(meanwhile, "peer:mx1")
    fleet[0].guard.kill()
    assert fleet[1].guard.command("ban", after, "--for", "1h").returncode == 0
    fleet[0].guard.start()
    fleet[0].banned(after, "peer:mx2")


def test_a_killed_fleet_process_is_connected_to_again(fleet: list[Host], client: Client) -> None:
    here, there = client(), client()
    fleet[1].process.kill()
    fleet[1].offend(here)
    fleet[1].banned(here, "log")
    said = fleet[1].says("not connected: the fleet process", "fleet", "status")
    assert "\nhint: systemctl enable --now throttled-fleet.service" in said
    fleet[0].offend(there)
    fleet[1].process.start()
    fleet[1].banned(there, "peer:mx1")
    fleet[0].banned(here, "peer:mx2")


def test_the_commands_name_the_host(fleet: list[Host], client: Client) -> None:
    bot = client()
    fleet[2].offend(bot)
    fleet[1].banned(bot, "peer:mx3")
    status = fleet[1].guard.ask("fleet", "status")
    assert (status["site"], status["name"], status["connected"]) == ("lab", "mx2", True)
    assert fleet[1].guard.command("fleet", "status").stdout.splitlines()[0] == (
        "fleet lab, this host mx2: connected"
    )
    assert fleet[1].peer("mx3")["entries"] >= 2
    rows = fleet[1].guard.ask("list", "--from", "mx3")["rows"]
    assert bot in {row["subject"] for row in rows}
    assert {row["origin"] for row in rows} == {"peer:mx3"}
    explained = fleet[1].guard.command("explain", bot).stdout
    assert "banned by mx3" in explained


def test_what_came_from_a_host_is_removed_and_the_host_distrusted(
    fleet: list[Host], client: Client
) -> None:
    before, meanwhile, after = client(), client(), client()
    fleet[2].offend(before)
    fleet[1].banned(before, "peer:mx3")
    assert fleet[1].guard.command("fleet", "remove", "mx3", "--distrust").returncode == 0
    assert "peer:mx3" not in fleet[1].bans().values()
    fleet[1].enforces(before, banned=False)
    fleet[2].offend(meanwhile)
    fleet[0].banned(meanwhile, "peer:mx3")
    assert not fleet[1].actions(meanwhile)
    assert "distrusted" in fleet[1].guard.command("fleet", "peers").stdout
    assert "fleet" in fleet[1].guard.command("audit").stdout
    assert fleet[1].guard.command("fleet", "trust", "mx3").returncode == 0
    fleet[2].offend(after)
    fleet[1].banned(after, "peer:mx3")


@pytest.mark.parametrize("words", [("remove",), ("remove", "--distrust"), ("trust",)])
def test_a_mistyped_host_is_refused(fleet: list[Host], words: tuple[str, ...]) -> None:
    done = fleet[0].guard.command("fleet", words[0], "mx22", *words[1:])
    assert done.returncode != 0, done.stdout
    assert done.stderr == (
        "throttled: no host mx22 is known in the fleet\nhint: did you mean mx2? known: mx2, mx3\n"
    )


def test_an_imported_list_is_everywhere_and_delays_no_own_ban(
    fleet: list[Host], client: Client, tmp_path: Path
) -> None:
    many = [f"100.{64 + n // 65_536}.{n // 256 % 256}.{n % 256}" for n in range(5_000)]
    (tmp_path / "list").write_text("\n".join(many))
    done = fleet[0].guard.command("import", str(tmp_path / "list"), "--as", "ban", "--for", "1h")
    assert done.returncode == 0, done.stderr
    bot = client()
    fleet[1].offend(bot)
    fleet[1].banned(bot, "log")
    until(lambda: fleet[1].peer("mx1")["entries"] >= 10_000, "the list is on mx2", 60)
    until(lambda: fleet[2].peer("mx1")["entries"] >= 10_000, "the list is on mx3", 60)
    assert not fleet[2].health() & {"fleet-most:mx1", "fleet-gap:mx1", "fleet-behind:mx1"}
