"""The real daemon before a real Postfix on a host whose firewall is iptables-legacy."""

from collections.abc import Iterator
from functools import partial

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import BOTH, V4, V6, answers, attack, banned, no_sessions, throttled
from lab.machine.legacy import legacy_path
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6

pytestmark = [pytest.mark.root, pytest.mark.postfix]

#: What a firewall script of the operator's would load; it flushes all of the table.
_THEIRS = """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack
COMMIT
"""


@pytest.fixture
def guard(guard: Daemon, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with legacy_path() as path:
        monkeypatch.setenv("PATH", path)
        guard.configure('[firewall]\nbackend = "iptables"\n')
        yield guard
        guard.kill()
        assert guard.command("purge", "--yes").returncode == 0
    for program in ("iptables-legacy", "ip6tables-legacy"):
        listed = lab.server.run(program, "-w", "-t", "raw", "-S").stdout
        assert "throttled" not in listed
        lab.server.run(program, "-w", "-t", "raw", "-F")
    assert lab.server.run("ipset", "list", "-n").stdout == ""


def test_an_attack_from_its_begin_to_its_end(lab: Lab, guard: Daemon) -> None:
    checked = guard.command("check")
    assert "firewall iptables: iptables-legacy and ipset work" in checked.stdout
    guard.start()
    assert lab.server.run("nft", "list", "tables").stdout == ""
    with (
        lab.client.connect(V4, SERVER4, 587, 5.0) as idle4,
        lab.client.connect(V6, SERVER6, 587, 5.0) as idle6,
    ):
        assert all(idle.recv(100).startswith(b"220 ") for idle in (idle4, idle6))
        banned(lab, guard, BOTH)
        for source in BOTH:
            netns.until(partial(no_sessions, lab, source), "its sessions are over")
    for source in BOTH:
        assert not answers(lab, source, 587)
        assert answers(lab, source, 25)
    assert all(row.packets > 0 for row in guard.rows())
    assert guard.status().backend == "iptables"
    assert guard.status().packets_dropped >= sum(row.packets for row in guard.rows())
    # It dies: protection stands, and its commands work on the kernel and the store.
    before = {row.subject: row.until for row in guard.rows()}
    guard.kill()
    assert not answers(lab, V4, 587)
    assert V4 in guard.command("list").stdout
    assert "ban" in guard.command("explain", V4).stdout
    assert guard.command("unban", V4).returncode == 0
    assert answers(lab, V4, 587)
    guard.start()
    assert not answers(lab, V6, 587)
    assert {row.subject: row.until for row in guard.rows()} == {V6: before[V6]}


@pytest.mark.long
def test_a_flood_is_throttled(lab: Lab, guard: Daemon) -> None:
    guard.start()
    free = throttled(lab, guard)
    left = attack(lab, "flood", BOTH, 5.0)
    assert left.blocked > 0
    assert left.sessions < free.sessions / 2
    assert all(answers(lab, source, 587) for source in BOTH)


def test_what_another_program_restored_over_ours_is_repaired(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard)
    lab.server.run("iptables-legacy-restore", "-w", stdin=_THEIRS)
    netns.until(lambda: not answers(lab, V4, 587), "the ban is active again")
    listed = lab.server.run(
        "iptables-legacy", "-w", "-t", "raw", "-S", "PREROUTING"
    ).stdout.splitlines()
    assert listed[1] == "-A PREROUTING -p tcp -j throttled"
    assert "--dport 53" in listed[2]
