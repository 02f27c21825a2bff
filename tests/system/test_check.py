"""`throttled check` before a real Postfix: what works, and what does not, found out by trying."""

import json
from typing import Any

import pytest

from lab.daemon import Daemon
from lab.postfix import Lab

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def problems(guard: Daemon, *options: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the state of each finding by what it says."""
    done = guard.command("check", "--json", *options)
    found: list[dict[str, Any]] = json.loads(done.stdout)["problems"]
    return done.returncode, {problem["what"]: problem["state"] for problem in found}


def state(found: dict[str, str], words: str) -> str:
    (what,) = (what for what in found if words in what)
    return found[what]


def test_all_is_proved_without_and_with_a_daemon(lab: Lab, guard: Daemon) -> None:
    code, found = problems(guard)
    assert code == 0, found
    assert state(found, "lines arriving: in ") == "ok"
    assert state(found, "clock") == "ok"
    assert state(found, "an element was added, found and removed") == "ok"
    assert "throttled" not in lab.server.run("nft", "list", "tables").stdout
    assert state(found, "the daemon is not running") == "warning"
    guard.start()
    code, found = problems(guard)
    assert code == 0, found
    assert state(found, "the daemon is running") == "ok"
    assert state(found, "an element was added, found and removed") == "ok"
    assert guard.rows() == []
    assert "203.0.113.255" not in lab.server.run("nft", "list", "ruleset").stdout


def test_a_log_in_which_nothing_arrives_is_a_fault(guard: Daemon) -> None:
    silent = guard.home / "silent.log"
    silent.touch()
    guard.configure(f'[log]\nfiles = ["{silent}"]\n')
    code, found = problems(guard)
    assert code == 1
    assert state(found, "lines arriving") == "fault"
    code, found = problems(guard, "--no-visit")
    assert code == 0, found


def test_a_firewall_that_is_out_of_reach_is_a_fault(guard: Daemon) -> None:
    guard.within = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    code, found = problems(guard, "--no-visit")
    assert code == 1
    assert "fault" in {found[what] for what in found if what.startswith("firewall nftables")}
