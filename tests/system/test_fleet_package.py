"""The set-up of docs/fleet.md, command by command, on three booted Debian machines with systemd.

The first machine has Debian's Redis server too, which is there before: with TLS, and a CA that all
trust.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.machine import booted
from lab.machine.booted import Machine
from lab.machine.packages import dependencies
from lab.network import netns
from system.test_fleet_server import Certificates

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("mx1", "mx2", "mx3")
SERVER = "198.51.100.11"
_REDIS = """\
bind 0.0.0.0
port 0
tls-port 6379
tls-cert-file /etc/redis/cert.pem
tls-key-file /etc/redis/key.pem
tls-ca-cert-dir /etc/ssl/certs
tls-auth-clients no
"""
#: What the administrator does in an editor: passwords.
_EDITOR = """\
#!/bin/sh
case $1 in
/etc/redis/users.acl) sed -i 's/CHANGE-/secret-of-/' "$1" ;;
/etc/throttled/fleet.password) echo "secret-of-$(cat /etc/fleet-name)" >"$1" ;;
esac
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.postfix,
    pytest.mark.systemd,
    pytest.mark.long,
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def machines(
    package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Machine]]:
    # What the package depends on is there, three times: test_package.py installs it.
    there = [*dependencies(package), "ca-certificates"]
    image = booted.image(["libbpf1", "redis-server", "python3-redis"], there)
    issued = Certificates(tmp_path_factory.mktemp("ca") / "ca")
    cert, key = issued.issue("redis.example.org", "DNS:redis.example.org")
    with ExitStack() as stack:
        hub = stack.enter_context(netns.namespace("hub"))
        hub.run("ip", "-batch", "-", stdin="link add br0 type bridge\nlink set br0 up\n")
        found = {}
        for number, name in enumerate(NAMES):
            where = stack.enter_context(netns.namespace(name))
            hub.run(*f"ip link add {name} type veth peer name eth0 netns {where.name}".split())
            hub.run("ip", "-batch", "-", stdin=f"link set {name} master br0\nlink set {name} up\n")
            inside = f"address add 198.51.100.{11 + number}/24 dev eth0\nlink set eth0 up\n"
            where.run("ip", "-batch", "-", stdin=inside)
            host = stack.enter_context(booted.machine(where, image))
            _prepare(host, name, package, issued.text("ca.pem"))
            found[name] = host
        server = found["mx1"]
        server.run("apt-get", "install", "redis-server", seconds=300)
        with server.path("/etc/redis/redis.conf").open("a") as file:
            file.write(_REDIS)
        server.path("/etc/redis/cert.pem").write_text(cert)
        server.path("/etc/redis/key.pem").write_text(key)
        server.run("chown", "redis", "/etc/redis/key.pem", "/etc/redis/cert.pem")
        yield found


def _prepare(host: Machine, name: str, package: Path, ca: str) -> None:
    """Install the package, and let the machine trust the CA and find the server."""
    host.path("/etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n')
    shutil.copy(package, host.path("/var/tmp/throttled.deb"))
    host.run("apt-get", "install", "/var/tmp/throttled.deb", seconds=300)
    host.path("/usr/local/share/ca-certificates/ours.crt").write_text(ca)
    host.run("update-ca-certificates")
    with host.path("/etc/hosts").open("a") as file:
        file.write(f"{SERVER} redis.example.org\n")
    host.path("/etc/fleet-name").write_text(f"{name}\n")
    for program, text in (("editor", _EDITOR), ("scp", "#!/bin/sh\n")):
        path = host.path(f"/usr/local/bin/{program}")
        path.write_text(text)
        path.chmod(0o755)


def blocks() -> list[list[str]]:
    """Return the commands of the page's set-up: on the server, on the first host, on each."""
    page = (ROOT / "docs/fleet.md").read_text()
    setup = page[page.index("## Set up three hosts") : page.index("## What is shared")]
    setup = setup.replace("\\\n", "")  # a command of two lines
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", setup, re.DOTALL)]


def shell(host: Machine, line: str) -> str:
    return host.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {line}", seconds=300).stdout


def status(host: Machine) -> Any:
    return json.loads(host.run("throttled", "fleet", "status", "--json").stdout)


@pytest.fixture(scope="module")
def fleet(machines: dict[str, Machine]) -> dict[str, Machine]:
    """Make the machines a fleet, by the page's ten commands."""
    server, first, each = blocks()
    assert (len(server), len(first), len(each)) == (3, 2, 5)
    for line in server:
        shell(machines["mx1"], line)
    for line in first:
        shell(machines["mx1"], line)
    key = machines["mx1"].path("/etc/throttled/fleet.key").read_bytes()
    for name in NAMES[1:]:  # what scp does
        path = machines[name].path("/etc/throttled/fleet.key")
        path.touch(0o600)
        path.write_bytes(key)
    for name in NAMES:
        for line in each:
            printed = shell(machines[name], line.replace('"mx1"', f'"{name}"'))
        assert f"fleet office, this host {name}" in printed
    return machines


def test_three_hosts_in_ten_commands(fleet: dict[str, Machine]) -> None:
    for name, host in fleet.items():
        others = set(NAMES) - {name}
        netns.until(
            lambda h=host, o=others: {p["name"] for p in status(h)["peers"]} == o,  # type: ignore[misc]
            f"{name} knows the others",
        )
        assert status(host)["connected"], name


def test_a_ban_of_one_host_is_in_the_kernels_of_all(fleet: dict[str, Machine]) -> None:
    fleet["mx2"].run("throttled", "ban", "203.0.113.9", "--for", "1h")
    for name in ("mx1", "mx3"):
        host = fleet[name]
        netns.until(
            lambda h=host: (
                "203.0.113.9" in h.run("nft", "list", "ruleset", check=False).stdout  # type: ignore[misc]
                or "peer:mx2" in h.run("throttled", "explain", "203.0.113.9", "--json").stdout
            ),
            f"{name} bans it",
        )
    rows = json.loads(fleet["mx3"].run("throttled", "list", "--from", "mx2", "--json").stdout)
    assert {row["subject"] for row in rows["rows"]} == {"203.0.113.9"}


def test_the_unit_has_no_rights_and_comes_back(fleet: dict[str, Machine]) -> None:
    host = fleet["mx3"]

    def show(name: str) -> str:
        words = ("systemctl", "show", "--value", "-p", name, "throttled-fleet")
        return host.run(*words).stdout.strip()

    pid = show("MainPID")
    about = host.path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^CapEff:\s+0{16}$", about, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", about, re.MULTILINE)
    assert show("MemoryMax") == str(256 << 20)
    host.run("systemctl", "kill", "--signal=KILL", "throttled-fleet")
    netns.until(lambda: show("MainPID") not in {"0", pid}, "it is started again")
    netns.until(lambda: status(host)["connected"], "connected again")


def test_check_finds_nothing_wrong_with_the_fleet(fleet: dict[str, Machine]) -> None:
    for name, host in fleet.items():
        done = host.run("throttled", "check", "--no-visit", "--json", check=False)
        found = [f for f in json.loads(done.stdout)["problems"] if "fleet" in f["what"]]
        assert [f["state"] for f in found] == ["ok"], (name, found)
