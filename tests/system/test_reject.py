"""`[firewall] reject`: a real daemon before a real Postfix refuses, and says where it cannot."""

import signal

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import BOTH, V4, answers
from lab.machine import bpffs
from lab.mail.postfix import Lab
from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def reload(guard: Daemon, more: str) -> None:
    before = guard.log.read_text().count("reloaded")
    guard.configure(more)
    guard.signal(signal.SIGHUP)
    netns.until(lambda: guard.log.read_text().count("reloaded") > before, "it is read again")


def test_users_see_an_error_and_not_a_timeout(lab: Lab, guard: Daemon) -> None:
    guard.configure("[firewall]\nreject = true\n")
    guard.start()
    for source in BOTH:
        assert answers(lab, source, 587)
        assert guard.command("ban", source, "--for", "1h").returncode == 0
        with pytest.raises(ConnectionRefusedError):
            answers(lab, source, 587)
        assert not answers(lab, source, 25)
    assert not guard.status().health
    reload(guard, "")
    assert not answers(lab, V4, 587)
    reload(guard, "[firewall]\nreject = true\n")
    with pytest.raises(ConnectionRefusedError):
        answers(lab, V4, 587)
    assert guard.command("unban", V4).returncode == 0
    assert answers(lab, V4, 587)


def test_xdp_drops_and_says_so(lab: Lab, guard: Daemon) -> None:
    with bpffs.bpffs() as mounted:
        guard.within = bpffs.within(mounted)
        guard.configure('[firewall]\nbackend = "xdp"\nreject = true\n')
        unstarted = guard.command("check")
        assert "reject does not work with the backend xdp" in unstarted.stdout
        guard.start()
        assert guard.command("ban", V4, "--for", "1h").returncode == 0
        assert not answers(lab, V4, 587)
        assert [finding.key for finding in guard.status().health] == ["cannot-refuse"]
        assert "warning    [firewall] reject does not work" in guard.command("status").stdout
        guard.kill()
