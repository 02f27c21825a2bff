"""Hosts that are allowed by their name in DNS, with a name server whose answers change."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import answers
from lab.mail import dns
from lab.mail.postfix import Lab
from throttled.store.names import GRACE

pytestmark = [pytest.mark.root, pytest.mark.postfix]

NAME = "monitor.example.net"
ONE, TWO, SIX = "198.18.70.1", "198.18.70.2", "2001:db8:b:46::1"
_WITHIN = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


class Resolver:
    """A name server; what it answers is in a file."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self._hosts = home / "hosts"
        self.has()
        argv = [sys.executable, str(Path(dns.__file__)), "127.0.0.2", "53", str(self._hosts)]
        self.process = lab.server.popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.process.stdout.readline()

    def has(self, *addresses: str) -> None:
        self._hosts.write_text("".join(f"{address} {NAME}\n" for address in addresses))


@pytest.fixture
def resolver(lab: Lab, guard: Daemon) -> Iterator[Resolver]:
    config = guard.home / "resolv.conf"
    config.write_text("nameserver 127.0.0.2\noptions timeout:1 attempts:1\n")
    guard.within = ("unshare", "--mount", "sh", "-c", _WITHIN, "sh", str(config))
    made = Resolver(lab, guard.home)
    yield made
    made.process.kill()
    made.process.communicate()


def allowed(guard: Daemon) -> dict[str, Any]:
    rows = json.loads(guard.command("allow", "--json").stdout)["rows"]
    assert all(row["name"] == NAME for row in rows)
    return {row["what"]: row for row in rows}


def bans(guard: Daemon, address: str) -> bool:
    return guard.command("ban", address, "--for", "1h").returncode == 0


def test_a_host_is_allowed_by_its_addresses_and_follows_dns(
    lab: Lab, guard: Daemon, resolver: Resolver
) -> None:
    resolver.has(ONE, SIX)
    guard.start()
    assert bans(guard, ONE)
    assert not answers(lab, ONE, 25)
    done = guard.command("allow", "--resolve", NAME, "--note", "probe")
    assert done.returncode == 0, done.stderr
    assert f"{NAME} is allowed by its addresses in DNS (2); added: " in done.stdout
    assert answers(lab, ONE, 25), "it was unbanned"
    assert not bans(guard, ONE)
    assert set(allowed(guard)) == {ONE, SIX}
    assert {row["note"] for row in allowed(guard).values()} == {"probe"}
    assert NAME in guard.command("explain", ONE).stdout

    assert guard.command("allow", "--refresh").stdout == "", "nothing changed"
    resolver.has(SIX, TWO)
    assert f"added: {TWO}" in guard.command("allow", "--refresh").stdout
    assert set(allowed(guard)) == {ONE, TWO, SIX}
    assert allowed(guard)[ONE]["missing"]
    assert allowed(guard)[TWO]["note"] == "probe"
    assert not bans(guard, ONE), "for a day"
    assert guard.command("allow", "--refresh").stdout == "", "nothing more changed"

    with closing(sqlite3.connect(guard.home / "throttled.db")) as db, db:
        db.execute("UPDATE resolved SET missing = missing - ? WHERE missing > 0", (GRACE,))
    assert f"removed: {ONE}" in guard.command("allow", "--refresh").stdout
    assert set(allowed(guard)) == {TWO, SIX}
    assert bans(guard, ONE)

    assert guard.command("disallow", NAME).returncode == 0
    assert allowed(guard) == {}
    assert bans(guard, TWO)


def test_while_dns_fails_the_last_known_addresses_stay(guard: Daemon, resolver: Resolver) -> None:
    resolver.has(ONE)
    guard.start()
    assert guard.command("allow", "--resolve", NAME).returncode == 0
    resolver.has()  # no such name
    done = guard.command("allow", "--refresh")
    assert done.returncode == 1
    assert f"{NAME} does not resolve" in done.stderr
    resolver.process.kill()
    done = guard.command("allow", "--refresh")
    assert done.returncode == 1
    assert set(allowed(guard)) == {ONE}
    assert allowed(guard)[ONE]["missing"] is None
    done = guard.command("allow", "--resolve", "other.example.net")
    assert done.returncode == 1
    assert "other.example.net does not resolve" in done.stderr


def test_without_a_daemon_and_after_a_restart(lab: Lab, guard: Daemon, resolver: Resolver) -> None:
    resolver.has(ONE)
    guard.start()
    assert bans(guard, ONE)
    guard.stop()
    assert guard.command("allow", "--resolve", NAME).returncode == 0
    assert answers(lab, ONE, 25)
    resolver.has(TWO)
    assert guard.command("allow", "--refresh").returncode == 0
    guard.start()
    assert set(allowed(guard)) == {ONE, TWO}
    assert not bans(guard, TWO)


def test_too_many_addresses_and_what_is_no_host(guard: Daemon, resolver: Resolver) -> None:
    resolver.has(*(f"198.18.70.{number}" for number in range(1, 66)))
    guard.start()
    done = guard.command("allow", "--resolve", NAME)
    assert done.returncode == 1
    assert "has more than 64 addresses" in done.stderr
    for words in (("--resolve",), ("--resolve", ".example.net"), ("--resolve", ONE)):
        assert guard.command("allow", *words).returncode == 2
    assert guard.command("allow", "--refresh", NAME).returncode == 2


def test_check_says_what_a_name_matches(guard: Daemon, resolver: Resolver) -> None:
    resolver.has(ONE)
    both = dns.client_name("198.18.0.2")  # forwards and backwards
    names = f"'{NAME}', '{both}', '.example.org', 'nosuch.example.net'"
    guard.configure(f"[protect]\nnames = [{names}]\n")
    shown = guard.command("check", "--no-visit").stdout
    called = dns.client_name(ONE)
    assert (
        f"warning  [protect] names: {NAME} does not match {ONE} ({called}): the reverse name must "
        "be the same\n"
        f"         to allow all its addresses: throttled allow --resolve {NAME}\n"
    ) in shown
    assert f"ok       [protect] names: {both} matches its addresses: 198.18.0.2\n" in shown
    assert "ok       [protect] names: .example.org matches every client whose confirmed" in shown
    assert "warning  [protect] names: nosuch.example.net does not resolve" in shown
