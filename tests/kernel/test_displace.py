"""Another backend than the one before: what that left goes once the new one enforces."""

import subprocess
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from lab.daemon import guarded
from lab.daemon.daemon import daemon
from lab.daemon.guarded import RULESET
from lab.figures import latency
from lab.machine.bpffs import bpffs
from lab.machine.legacy import legacy_path
from lab.network.netns import directory, namespace, pair, unique, until
from throttled.control import client, requests
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.registry import choose, displace
from throttled.model import Entry

pytestmark = pytest.mark.root

BANNED = "198.18.7.7"
BAN = Entry(BANNED, "mx", "ban", 600.0)


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with legacy_path() as path, bpffs() as mounted:
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr("throttled.enforce.xdp.backend.PINS", mounted / unique("xdp"))
        yield


def run(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("old", "new"), [*permutations(("nftables", "iptables", "xdp"), 2)])
def test_what_the_other_left_goes_and_nothing_else(old: str, new: str) -> None:
    with guarded.wire() as wire, guarded.guarded(old, wire) as host:
        host.backend.apply([BAN])
        for command in (
            "nft add table inet others",
            "ipset create thr_others hash:ip",
            "iptables-legacy -w -t raw -A PREROUTING -s 203.0.113.7 -j ACCEPT",
        ):
            run(command)
        with guarded.guarded(new, wire) as newer:
            newer.backend.apply([BAN])
            assert displace(new) == ([old], [])
            assert displace(new) == ([], [])
            assert host.backend.lookup([BAN]) == []
            assert newer.backend.intact()
            assert not newer.arrives(BANNED)
            assert run("nft list tables") == "table inet others\n" + (
                "table inet throttled\n" if new == "nftables" else ""
            )
            assert "thr_others" in run("ipset list -n")
            assert "-A PREROUTING -s 203.0.113.7/32 -j ACCEPT" in run(
                "iptables-legacy -w -t raw -S"
            )
        run("iptables-legacy -w -t raw -F")
        run("ipset destroy thr_others")
        run("nft delete table inet others")


def test_pins_of_another_namespace_stay() -> None:
    """All namespaces of a host may see one BPF file system."""
    with guarded.wire() as wire, guarded.guarded("xdp", wire) as host:
        host.backend.apply([BAN])
        with namespace("elsewhere") as place, place.entered():
            choose("nftables").setup(RULESET)
            assert displace("nftables") == ([], [])
        assert host.backend.intact()
        assert not host.arrives(BANNED)


def test_the_daemon_does_it_and_nobody_gets_by_meanwhile() -> None:
    with (
        pair() as (server, knocker),
        directory("nopostfix") as postfix,
        daemon(server, postfix) as guard,
    ):
        logged = Path(guard.home, "mail.log")
        logged.touch()

        def start(backend: str) -> None:
            guard.configure(
                f'[log]\nfiles = ["{logged}"]\n[firewall]\nbackend = "{backend}"\n'
                "ports = { mx = [25], submission = [587] }\n"
            )
            guard.start()

        start("nftables")
        client.request(guard.socket, requests.Ban(BANNED, "mx"))
        with latency.knocking(knocker, BANNED) as heard:
            guard.stop()
            start("iptables")
            until(lambda: not server.call(Nftables().present), "the table is gone")
        assert not heard
        # Once it has also looked for what other backends left.
        until(lambda: "left by the nftables backend" in guard.log.read_text(), "it is logged")
