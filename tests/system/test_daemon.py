"""The real daemon before a real Postfix that is really attacked."""

import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from functools import partial

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import (
    BOTH,
    V4,
    V6,
    answers,
    attack,
    banned,
    has,
    no_sessions,
    sessions,
    throttled,
)
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6
from throttled.model import Scope

pytestmark = [pytest.mark.root, pytest.mark.postfix]


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("guess", "submission"),
        ("garbage", "mx"),
        ("relay", "mx"),
        ("harvest", "mx"),
    ],
)
def test_an_attacker_is_banned_in_the_scope_of_its_attack(
    lab: Lab, guard: Daemon, kind: str, scope: Scope
) -> None:
    guard.start()
    banned(lab, guard, BOTH, kind, scope)
    for source in BOTH:
        assert not answers(lab, source, 587 if scope == "submission" else 25)
        assert answers(lab, source, 25 if scope == "submission" else 587)
    seen = {row.subject: row for row in guard.rows()}
    assert set(seen) == set(BOTH)
    assert all(row.packets > 0 for row in seen.values())
    assert guard.status().packets_dropped >= sum(row.packets for row in seen.values())


@pytest.mark.long
def test_a_flood_is_throttled(lab: Lab, guard: Daemon) -> None:
    """A rate is answered by a rate: then ten connections a minute are let in."""
    guard.start()
    free = throttled(lab, guard)
    left = attack(lab, "flood", BOTH, 5.0)
    assert left.blocked > 0
    assert left.sessions < free.sessions / 2
    assert all(answers(lab, source, 587) for source in BOTH)


def test_a_ban_ends_the_sessions_of_the_client(lab: Lab, guard: Daemon) -> None:
    guard.start()
    for source, target in ((V4, SERVER4), (V6, SERVER6)):
        with lab.client.connect(source, target, 587, 5.0) as idle:
            assert idle.recv(100).startswith(b"220 ")
            before = sessions(lab, source)
            banned(lab, guard, [source])
            assert before
            netns.until(partial(no_sessions, lab, source), "its sessions are over")


def test_a_good_neighbour_is_not_hurt(lab: Lab, guard: Daemon) -> None:
    guard.start()
    good = Bot(lab.client, "user", 4.0, ["198.18.7.22", "2001:db8:b:7::22"])
    attack(lab, "guess", BOTH, 4.0)
    report = good.report()
    assert all(has(guard, source, "ban", "submission") for source in BOTH)
    assert len(report.latencies) == report.tries == report.sent > 0  # at the first try each
    assert {row.subject for row in guard.rows()} == set(BOTH)


def test_explain_gives_the_reason(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard)
    record = guard.ask("explain", V4)
    (ban,) = [row for row in record["active"] if row["action"] == "ban"]
    assert ban["scope"] == "submission"
    since, until = (datetime.fromisoformat(ban[key]) for key in ("since", "until"))
    assert until - since == timedelta(minutes=10)
    assert record["decisions"][0]["limit"] == ban["limit"]
    assert str(record["decisions"][0]["threshold"]) in ban["why"]
    log = lab.mail.log.read_bytes()
    assert any("SASL PLAIN authentication failed" in line["text"] for line in record["lines"])
    for line in record["lines"]:
        assert line["path"] == str(lab.mail.log)
        assert f"[{V4}]" in line["text"]
        assert log[line["offset"] :].startswith(line["text"].encode("latin-1"))
    shown = guard.command("explain", V4)
    assert shown.returncode == 0
    assert ban["limit"] in shown.stdout
    assert "SASL PLAIN authentication failed" in shown.stdout


def test_unban_lets_a_client_in_at_once(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard)
    assert not answers(lab, V4, 587)
    assert guard.command("unban", V4).returncode == 0
    assert answers(lab, V4, 587)
    assert not guard.rows()
    assert guard.command("unban", V4).returncode == 1
    # Its meters were forgotten too: one more failure is not the last straw.
    attack(lab, "guess", [V4], 0.1)
    assert not has(guard, V4, "ban", "submission")


def test_a_manual_ban_is_in_the_kernel_when_it_answers(lab: Lab, guard: Daemon) -> None:
    guard.start()
    assert answers(lab, V4, 25)
    assert guard.command("ban", V4, "--for", "1h", "--scope", "mx").returncode == 0
    assert not answers(lab, V4, 25)
    assert answers(lab, V4, 587)


def _reloads(guard: Daemon) -> list[tuple[str, str, bool]]:
    """Return the audit records of reloads."""
    rows = guard.ask("audit")["rows"]
    return [(row["program"], row["outcome"], row["ok"]) for row in rows if row["op"] == "reload"]


def test_a_good_configuration_is_loaded_on_sighup(lab: Lab, guard: Daemon) -> None:
    guard.start()
    guard.configure('[limits.auth-users]\ncount = "auth_users"\nwithin = "10m"\nhard = 3\n')
    guard.signal(signal.SIGHUP)
    netns.until(lambda: "reloaded" in guard.log.read_text(), "the configuration is read again")
    assert _reloads(guard) == [("throttled", "reloaded", True)]
    banned(lab, guard)
    (row,) = guard.rows(V4)
    assert row.limit == "auth-users"
    assert "3" in row.why


_SIGHUP = """
import os, signal, sys

class Early:
    def find_spec(self, name, *_more):
        if name == "throttled.service.daemon":
            os.kill(os.getpid(), signal.SIGHUP)

sys.meta_path.insert(0, Early())
from throttled.cli.main import main
main()
"""


def test_a_sighup_while_it_starts_is_done_once_it_is_ready(guard: Daemon) -> None:
    """It comes when the first room is imported, long before there is a handler."""
    program = guard.home / "throttled"
    program.write_text(_SIGHUP)
    guard.program = (sys.executable, str(program))
    guard.start()
    netns.until(lambda: "reloaded" in guard.log.read_text(), "the configuration is read again")
    assert len(_reloads(guard)) == 1


def test_a_bad_configuration_changes_nothing(lab: Lab, guard: Daemon) -> None:
    guard.start()
    guard.configure('[limits.auth-users]\nhard = "three"\n')
    guard.signal(signal.SIGHUP)
    netns.until(lambda: "not reloaded" in guard.log.read_text(), "it was refused, and said so")
    guard.configure("")  # else the command refuses it, too
    ((program, outcome, ok),) = _reloads(guard)
    assert (program, ok) == ("throttled", False)
    assert "not reloaded" in outcome
    assert outcome in guard.log.read_text()
    banned(lab, guard)


def test_kill_and_restart_lose_nothing(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard, BOTH)
    before = {row.subject: row.until for row in guard.rows()}
    guard.kill()
    assert not answers(lab, V4, 587)
    assert not answers(lab, V6, 587)
    assert guard.command("list", V4).returncode == 0  # works without a daemon too
    missed = "198.18.8.8"
    attack(lab, "guess", [missed], 1.5)
    assert answers(lab, missed, 587)
    guard.start()
    assert not answers(lab, V4, 587)
    after = {row.subject: row.until for row in guard.rows()}
    assert {subject: after[subject] for subject in before} == before
    netns.until(lambda: has(guard, missed, "ban", "submission"), "what it missed is read")
    assert not answers(lab, missed, 587)
    level = {row.subject: row.level for row in guard.rows()}
    assert set(level.values()) == {1}  # nothing was decided twice


def test_stop_leaves_protection_standing(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard)
    assert guard.stop() == 0
    assert not answers(lab, V4, 587)
    assert guard.command("status").returncode == 3
    assert guard.command("unban", V4).returncode == 0  # works without a running daemon too
    assert answers(lab, V4, 587)


def test_stop_can_remove_it_all(lab: Lab, guard: Daemon) -> None:
    guard.configure('[firewall]\non_stop = "remove"\n')
    guard.start()
    banned(lab, guard)
    guard.stop()
    assert answers(lab, V4, 587)
    assert lab.server.run("nft", "list", "tables").stdout == ""


def test_observing_touches_nothing(lab: Lab, guard: Daemon) -> None:
    guard.start("--mode", "observe")
    attack(lab, "guess", [V4], 2.0)
    netns.until(lambda: f"would-ban {V4}" in guard.log.read_text(), "it says what it would do")
    assert answers(lab, V4, 587)
    assert lab.server.run("nft", "list", "tables").stdout == ""


def test_the_log_has_the_beginning_and_the_end_of_everything(guard: Daemon) -> None:
    guard.configure('[ban]\ntimes = ["1s"]\n[throttle]\ntime = "4s"\n')
    guard.start()
    assert guard.command("ban", V4, "--scope", "mx").returncode == 0
    place = f"{V4} scope=mx limit"
    life = re.compile(
        rf"throttled: ban {place}=operator for=1s level=1 origin=operator\n"
        rf"(?:.*\n)*throttled: expire {place}=operator for=1s level=1 origin=operator\n"
        rf"throttled: throttle {place}=ladder for=[234]s origin=operator\n"
        rf"throttled: expire {place}=ladder for=[234]s origin=operator\n"
    )
    netns.until(lambda: life.search(guard.log.read_text()) is not None, "all of it is over")

    assert guard.command("ban", V6, "--scope", "mx", "--for", "1h").returncode == 0
    assert guard.command("unban", V6).returncode == 0
    log = guard.log.read_text()
    assert f"throttled: ban {V6} scope=mx limit=operator for=1h origin=operator\n" in log
    assert f"throttled: unban {V6} scope=mx limit=operator origin=operator\n" in log
    for outcome in (f"{V6} is banned in mx", f"{V6} is unbanned"):
        assert len(re.findall(rf"^throttled: .*\(uid 0, .*: {outcome}$", log, re.MULTILINE)) == 1


def test_debug_lines_explain_a_decision(lab: Lab, guard: Daemon) -> None:
    guard.start("--log-level", "debug")
    banned(lab, guard, kind="garbage", scope="mx")
    said = rf"ban {V4} scope=mx limit=errors value=(\d+) hard=50 for=10m level=1 origin=log\b"
    log = guard.log.read_text()
    explained = re.search(
        rf"^throttled: debug: decided: {said}.*; (\d+) points.*", log, re.MULTILINE
    )
    shown = re.search(rf"^throttled: {said}", log, re.MULTILINE)
    assert explained
    assert shown
    assert explained[1] == explained[2] == shown[1]
    assert "history: 0 bans" in explained[0]
    assert "log lines (source:offset)" in explained[0]


def test_a_flushed_firewall_is_repaired(lab: Lab, guard: Daemon) -> None:
    guard.start()
    banned(lab, guard)
    lab.server.run("nft", "flush", "ruleset")
    netns.until(lambda: not answers(lab, V4, 587), "the ban is active again")


def test_the_host_itself_is_never_banned(lab: Lab, guard: Daemon) -> None:
    guard.start()
    own = Bot(lab.server, "guess", 2.0, [SERVER4]).report()
    assert own.sessions > 2
    assert own.blocked == 0
    banned(lab, guard)  # everything before it was read when this one is banned
    assert {row.subject for row in guard.rows()} == {V4}


def test_a_full_disk_does_not_stop_protection(lab: Lab, guard: Daemon) -> None:
    small = guard.home / "small"
    small.mkdir()
    lab.server.run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small))
    try:
        guard.config.write_text(
            guard.config.read_text().replace(f"{guard.home}/throttled.db", f"{small}/throttled.db")
        )
        guard.start()
        ballast = small / "ballast"
        filled = subprocess.run(
            ["dd", "if=/dev/zero", f"of={ballast}"], capture_output=True, check=False
        )
        assert b"No space" in filled.stderr
        attack(lab, "guess", [V4], 2.0)
        netns.until(lambda: not answers(lab, V4, 587), "it is banned all the same")
        assert any(finding.state == "fault" for finding in guard.status().health)
        ballast.unlink()
        netns.until(lambda: has(guard, V4, "ban", "submission"), "recorded when there is room")
        netns.until(lambda: not guard.status().health, "and well again")
    finally:
        guard.kill()
        lab.server.run("umount", str(small))
