"""The real daemon with XDP before a real Postfix: what is particular to it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import BOTH, V4, V6, answers, attack, banned, throttled
from lab.machine import bpffs
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.enforce.xdp.interfaces import interfaces

pytestmark = [pytest.mark.root, pytest.mark.postfix]


@pytest.fixture
def pins(guard: Daemon) -> Iterator[Path]:
    """Give the daemon a BPF file system, in which its pins are in throttled/."""
    with bpffs.bpffs() as mounted:
        guard.within = bpffs.within(mounted)
        guard.configure('[firewall]\nbackend = "xdp"\n')
        yield mounted / "throttled"
        guard.kill()


def attached(lab: Lab) -> set[str]:
    return {each.name for each in lab.server.call(interfaces) if each.attached}


@pytest.mark.long
def test_a_flood_is_stopped_and_good_mail_goes_on(lab: Lab, guard: Daemon, pins: Path) -> None:
    guard.start()
    assert guard.status().backend == "xdp"
    assert lab.server.run("nft", "list", "tables").stdout == ""
    good = Bot(lab.client, "user", 6.0, ["198.18.7.22", "2001:db8:b:7::22"])
    banned(lab, guard, BOTH, "guess", "submission")
    free = throttled(lab, guard)
    left = attack(lab, "flood", BOTH, 2.0)
    assert left.sessions < free.sessions / 4
    for source in BOTH:
        assert not answers(lab, source, 587)
    report = good.report()
    assert len(report.latencies) == report.sent > 0
    rows = {(row.subject, row.scope): row for row in guard.rows()}
    assert {subject for subject, _scope in rows} == set(BOTH)
    assert all(row.packets > 0 for row in rows.values())
    assert guard.status().packets_dropped >= sum(row.packets for row in rows.values())
    assert pins.exists()


def test_a_killed_daemon_protects_and_the_next_one_adopts(
    lab: Lab, guard: Daemon, pins: Path
) -> None:
    guard.start()
    banned(lab, guard, BOTH)
    before = {row.subject: row.until for row in guard.rows()}
    guard.kill()
    assert attached(lab) == {"eth0"}
    assert not answers(lab, V4, 587)
    assert not answers(lab, V6, 587)
    guard.start()
    assert not answers(lab, V4, 587)
    assert {row.subject: row.until for row in guard.rows()} == before
    assert guard.stop() == 0
    assert not answers(lab, V4, 587)
    assert guard.command("unban", V4).returncode == 0  # without a daemon
    assert answers(lab, V4, 587)
    assert pins.exists()


def test_on_stop_remove_leaves_nothing(lab: Lab, guard: Daemon, pins: Path) -> None:
    guard.configure('[firewall]\nbackend = "xdp"\non_stop = "remove"\n')
    guard.start()
    banned(lab, guard)
    guard.stop()
    assert answers(lab, V4, 587)
    assert attached(lab) == set()
    assert not pins.exists()


def test_pins_that_were_removed_come_back(lab: Lab, guard: Daemon, pins: Path) -> None:
    guard.start()
    banned(lab, guard)
    for each in (*pins.glob("*/*"), *pins.glob("*")):
        if each.is_dir():
            each.rmdir()
        else:
            each.unlink()
    netns.until(lambda: any(pins.glob("*/*")), "the pins are back")
    netns.until(lambda: not answers(lab, V4, 587), "the ban is active")
    netns.until(lambda: not guard.status().health, "and well again")


def test_an_interface_that_comes_is_guarded(lab: Lab, guard: Daemon, pins: Path) -> None:
    guard.start()
    assert attached(lab) == {"eth0"}
    lab.server.run("ip", "link", "add", "late0", "type", "veth", "peer", "late1")
    try:
        netns.until(lambda: attached(lab) == {"eth0", "late0", "late1"}, "they are guarded")
    finally:
        lab.server.run("ip", "link", "delete", "late0")
    netns.until(lambda: len(list(pins.glob("*/link_*"))) == 1, "their pins are gone")


def test_check_and_a_reload(lab: Lab, guard: Daemon, pins: Path) -> None:
    assert lab
    done = guard.command("check")
    assert "firewall xdp: XDP works, on Linux" in done.stdout
    guard.start("--backend", "xdp")
    guard.configure('[firewall]\nbackend = "xdp"\nxdp_mode = "native"\n')
    guard.signal(signal.SIGHUP)
    netns.until(lambda: "needs a restart: firewall.xdp_mode" in guard.log.read_text(), "it says so")
    assert pins.exists()
