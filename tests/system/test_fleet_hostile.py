"""A hostile peer, which has the secret and its user at the Redis server, against real daemons.

What it may do is bounded by docs/fleet.md: mx1 is attacked, mx2 is honest, `rogue` is hostile.
"""

import time
from collections.abc import Iterator

import pytest

from lab.fleet import server as lab
from lab.fleet.hosts import Client, Host, acquainted, hosts
from lab.fleet.peer import Peer
from lab.fleet.server import Server
from lab.network.netns import directory, until
from throttled.fleet.wire import Ban, Unban

pytestmark = [pytest.mark.root]

#: Each test has a hostile peer of its own: what it does is counted by peer.
ROGUES = tuple(f"rogue{number}" for number in range(20))
OWN = "198.51.100.77"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with directory("redis") as home, lab.server(home, ("mx1", "mx2", *ROGUES)) as made:
        yield made


@pytest.fixture(scope="module")
def rogues(server: Server) -> list[Peer]:
    made = [Peer(server, name) for name in ROGUES]
    for peer in made:
        peer.ban("192.0.2.1", seconds=1)  # a stream that hosts can find
    return made


@pytest.fixture(scope="module")
def fleet(server: Server, rogues: list[Peer]) -> Iterator[list[Host]]:
    assert rogues
    with hosts(server, ("mx1", "mx2"), "most = 20_000") as made:
        made[0].guard.server.run("ip", "address", "add", f"{OWN}/24", "dev", "lo")
        made[0].says("an address of this host", "explain", OWN)
        acquainted(made, *ROGUES)
        yield made


@pytest.fixture(scope="module")
def unused(rogues: list[Peer]) -> Iterator[Peer]:
    return iter(rogues)


@pytest.fixture
def rogue(unused: Iterator[Peer]) -> Peer:
    return next(unused)


def heard(host: Host, rogue: Peer, client: Client) -> None:
    """Wait until a host has processed all that the peer published."""
    last = client()
    rogue.ban(last)
    host.banned(last, f"peer:{rogue.name}")


def honest(fleet: list[Host], client: Client) -> None:
    """Check that bans of the honest peer still come."""
    bot = client()
    fleet[1].offend(bot)
    fleet[0].banned(bot, "peer:mx2")


def good(host: Host, *users: str) -> None:
    """Let clients log in, and wait until the host remembers that."""
    for user in (*users, *users):
        host.log_in(user)
    host.says("login", "explain", users[-1])  # the lines before are read too then


def test_protected_addresses_and_wide_networks(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    friend = client()
    assert fleet[0].guard.command("allow", friend).returncode == 0
    subjects = [OWN, friend, "127.0.0.1", "::1", "198.0.0.0/8", "0.0.0.0/0", "::/0"]
    subjects += ["198.51.100.0/23", "2001:db8::/32", "198.51.100.7/32", "198.051.100.7", "\x1b[2J"]
    rogue.ban(*subjects)
    rogue.ban(*subjects, limit="operator")
    rogue.ban("198.51.100.0/24", limit="errors")
    heard(fleet[0], rogue, client)
    mine = [r.subject for r in fleet[0].guard.rows() if r.origin == f"peer:{rogue.name}"]
    assert set(mine) <= {f"198.18.{n}.7" for n in range(256)}
    assert not {OWN, friend} & set(mine)
    outcomes = fleet[0].peer(rogue.name)["outcomes"]
    assert outcomes["protected"] >= 4
    assert outcomes["refused"] >= 20


def test_good_senders_are_throttled_and_then_all_its_bans_are(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    users = [client() for _ in range(12)]
    good(fleet[0], *users)
    rogue.ban(*users)
    for user in users:
        fleet[0].throttled(user, f"peer:{rogue.name}")
    stranger = client()
    rogue.ban(stranger)
    fleet[0].throttled(stranger, f"peer:{rogue.name}")
    assert f"fleet-brake:{rogue.name}" in fleet[0].health()
    assert f"{rogue.name}: " in fleet[0].guard.command("fleet", "peers").stdout
    said = fleet[0].guard.command("status").stdout
    assert f"{rogue.name}: banned many clients that are good here" in said
    bot = client()
    fleet[0].offend(bot)
    fleet[0].banned(bot, "log")  # the own brake is off
    honest(fleet, client)
    assert fleet[0].guard.command("fleet", "trust", rogue.name).returncode == 0
    heard(fleet[0], rogue, client)


def test_a_good_sender_in_a_network_that_it_bans_may_connect(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    user = client()
    network = user.replace(".7", ".0/24")
    good(fleet[0], user)
    rogue.ban(network, limit="operator")
    fleet[0].banned(network, f"peer:{rogue.name}")
    until(lambda: fleet[0].actions(user) == {("exempt", "log")}, "the user is exempt")


def test_a_good_sender_that_it_throttles_and_whose_network_it_bans(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    user = client()
    network = user.replace(".7", ".0/24")
    good(fleet[0], user)
    rogue.ban(user)
    fleet[0].throttled(user, f"peer:{rogue.name}")
    rogue.ban(network, limit="operator")
    heard(fleet[0], rogue, client)
    assert ("ban", f"peer:{rogue.name}") not in fleet[0].actions(network)


def test_a_good_sender_in_a_network_of_another_size(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    four, six = client(), "2001:db8:9:1::7"
    good(fleet[0], four, six)
    rogue.ban(four.replace(".7", ".0/28"), "2001:db8:9::/48", limit="operator")
    heard(fleet[0], rogue, client)
    narrow = four.replace(".7", ".0/28")
    assert fleet[0].actions(narrow) == {("throttle", f"peer:{rogue.name}")}
    fleet[0].banned("2001:db8:9::/48", f"peer:{rogue.name}")

    def has(name: str, address: str) -> bool:
        words = "nft", "get", "element", "inet", "throttled", name, f"{{ {address} }}"
        return fleet[0].guard.server.run(*words, check=False).returncode == 0

    until(lambda: has("mx_ban6_48", "2001:db8:9::"), "the kernel bans the /48")
    assert has("mx_exempt6", six)
    assert not has("mx_exempt6", "2001:db8:9:2::1")


def test_ten_of_each_network_ban_no_network(fleet: list[Host], rogue: Peer, client: Client) -> None:
    rogue.ban(*(f"203.0.113.{number}" for number in range(1, 41)))
    heard(fleet[0], rogue, client)
    fleet[0].offend("203.0.113.99")
    fleet[0].banned("203.0.113.99", "log")
    assert not [subject for subject in fleet[0].bans() if subject.startswith("203.0.113.0/")]


def test_absurd_values(fleet: list[Host], rogue: Peer, client: Client) -> None:
    one, two = client(), client()
    day = 86400
    rogue.say(Ban(one, "mx", 10 * 366 * day, "no-such-limit", 1000, 1 << 53, 1 << 53))
    rogue.say(Ban(two, "mx", 1 << 63, "errors"))
    rogue.say(Ban(two, "mx", -1, "errors"))
    rogue.say(Ban(two, "mx", 60, "errors; drop table active"))
    rogue.say(Ban(two, "mx", 60, "errors", 10**6))
    rogue.say(Ban("x" * 60_000, "mx", 60, "errors"))
    rogue.add(b"\xc1" * 65_536, b"")
    rogue.add(b"", b"")
    rogue.client.xadd(rogue.stream, {"x": "y"})
    fleet[0].banned(one, f"peer:{rogue.name}")
    heard(fleet[0], rogue, client)
    (row,) = fleet[0].guard.rows(one)
    assert row.until - time.time() <= day + 1
    assert not fleet[0].actions(two)
    explained = fleet[0].guard.command("explain", one)
    assert explained.returncode in {0, 1}
    assert f"banned by {rogue.name}" in explained.stdout
    honest(fleet, client)


def test_replayed_entries_and_those_of_others(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    bot, other = client(), client()
    old = rogue.entry("ban", [Ban(bot, "mx", 600, "errors")])
    rogue.add(*old)
    fleet[0].banned(bot, f"peer:{rogue.name}")
    assert fleet[0].guard.command("unban", bot).returncode == 0
    rogue.add(*old)
    fleet[1].offend(other)
    fleet[0].banned(other, "peer:mx2")
    entries = rogue.client.xrange("throttled:lab:log:mx2")
    for _, fields in entries:
        rogue.client.xadd(rogue.stream, fields)
    heard(fleet[0], rogue, client)
    assert not fleet[0].actions(bot)
    outcomes = fleet[0].peer(rogue.name)["outcomes"]
    assert outcomes["old"] == 1
    assert outcomes["forged"] == len(entries)


def test_an_id_of_the_year_2286(fleet: list[Host], rogue: Peer, client: Client) -> None:
    bot = client()
    rogue.add(*rogue.entry("ban", [Ban(bot, "mx", 600, "errors")]), "9999999999999-0")
    fleet[0].banned(bot, f"peer:{rogue.name}")
    (row,) = fleet[0].guard.rows(bot)
    assert row.until - time.time() <= 601
    rogue.add(*rogue.entry("ban", []), "18446744073709551615-18446744073709551615")
    honest(fleet, client)


def test_mass_unbans(fleet: list[Host], rogue: Peer) -> None:
    bots = [f"198.19.{number // 100}.{number % 100}" for number in range(300)]
    path = fleet[1].guard.home / "bots"
    path.write_text("\n".join(bots))
    done = fleet[1].guard.command("import", str(path), "--as", "ban", "--for", "1h")
    assert done.returncode == 0, done.stderr
    fleet[0].banned(bots[-1], "peer:mx2")
    rogue.say(*(Unban(bot, "mx", 10**8) for bot in bots), kind="unban")
    fleet[0].received(rogue.name, "too-many", 200)
    banned = fleet[0].bans().keys() & set(bots)
    assert len(banned) >= 200
    exempt = [r for r in fleet[0].guard.rows() if r.action == "exempt" and r.subject in bots]
    assert all(r.until - time.time() <= 3601 for r in exempt)


def test_forged_entries_at_full_speed_are_not_read_on(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    with rogue.client.pipeline(transaction=False) as pipe:
        for _ in range(20_000):
            pipe.xadd(rogue.stream, {"d": b"x" * 1000, "m": b"y" * 16})
        pipe.execute()
    fleet[0].received(rogue.name, "forged", 100)
    honest(fleet, client)
    assert f"fleet-forged:{rogue.name}" in fleet[0].health()
    assert fleet[0].peer(rogue.name)["outcomes"]["forged"] < 200


def test_a_flood_of_rows_delays_no_own_ban_and_is_cut(
    fleet: list[Host], rogue: Peer, client: Client
) -> None:
    many = [f"100.{64 + n // 65_536}.{n // 256 % 256}.{n % 256}" for n in range(60_000)]
    rogue.ban(*many)
    bot = client()
    fleet[0].offend(bot)
    fleet[0].banned(bot, "log")
    rows = sum(fleet[0].peer(rogue.name)["outcomes"].values())
    assert rows < len(many)  # of twice as many; a tenth today. How long it takes: make bench
    honest(fleet, client)
    fleet[0].received(rogue.name, "most")
    assert f"fleet-most:{rogue.name}" in fleet[0].health()
    assert fleet[0].peer(rogue.name)["entries"] <= 20_000
    assert fleet[0].guard.memory() < 300 << 20
    assert fleet[0].guard.command("fleet", "remove", rogue.name, "--distrust").returncode == 0
    assert fleet[0].peer(rogue.name)["entries"] == 0


def test_ten_thousand_hosts_that_do_not_exist(
    server: Server, fleet: list[Host], rogue: Peer, client: Client
) -> None:
    """A host that is started meanwhile still finds the honest ones."""
    ghosts = [f"ghost{number}" for number in range(10_000)]
    rogue.announce(*ghosts)
    try:
        fleet[0].guard.kill()
        fleet[0].guard.start()
        honest(fleet, client)
    finally:
        server.ask("HDEL", "throttled:lab:peers", *ghosts)


def test_an_entry_of_300_megabytes(
    server: Server, fleet: list[Host], rogue: Peer, client: Client
) -> None:
    """It is passed over and reported; bans of the honest peer come."""
    rogue.client.xadd(rogue.stream, {f"x{number}": b"x" * (50 << 20) for number in range(6)})
    bot, most = client(), 0
    fleet[1].offend(bot)

    def ended() -> bool:
        nonlocal most
        most = max(most, fleet[0].process.memory())
        return most > 256 << 20 or ("ban", "peer:mx2") in fleet[0].actions(bot)

    try:
        until(ended, "the ban of the honest peer comes, or the memory is used up")
        assert most <= 256 << 20
        until(lambda: f"fleet-long:{rogue.name}" in fleet[0].health(), "it is reported")
    finally:
        server.ask("DEL", rogue.stream)
