"""`throttled check` before a real Postfix: what works, and what does not, found out by trying."""

import json
import shutil
from typing import Any

import pytest

from lab.daemon.daemon import Daemon
from lab.mail.postfix import Lab

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def findings(guard: Daemon, *options: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the state of each finding by what it says."""
    done = guard.command("check", "--json", *options)
    found: list[dict[str, Any]] = json.loads(done.stdout)["problems"]
    return done.returncode, {finding["what"]: finding["state"] for finding in found}


def state(found: dict[str, str], words: str) -> str:
    (what,) = (what for what in found if words in what)
    return found[what]


def test_all_is_proved_without_and_with_a_daemon(lab: Lab, guard: Daemon) -> None:
    code, found = findings(guard)
    assert code == 0, found
    assert state(found, "lines arriving: in ") == "ok"
    assert state(found, "clock") == "ok"
    assert state(found, "overload: mx: strangers may have 80 connections open") == "ok"
    assert state(found, "overload: submission: ") == "ok"
    assert state(found, "overload: BPF can limit strangers") == "ok"
    assert state(found, "an element was added, found and removed") == "ok"
    assert "throttled" not in lab.server.run("nft", "list", "tables").stdout
    assert state(found, "the daemon is not running") == "warning"
    guard.start()
    code, found = findings(guard)
    assert code == 0, found
    assert state(found, "the daemon is running") == "ok"
    assert state(found, "overload: mx: ") == "ok"
    assert state(found, "an element was added, found and removed") == "ok"
    assert guard.rows() == []
    assert "203.0.113.255" not in lab.server.run("nft", "list", "ruleset").stdout


def test_a_log_in_which_nothing_arrives_is_a_fault(guard: Daemon) -> None:
    silent = guard.home / "silent.log"
    silent.touch()
    guard.configure(f'[log]\nfiles = ["{silent}"]\n')
    code, found = findings(guard)
    assert code == 1
    assert state(found, "lines arriving") == "fault"
    code, found = findings(guard, "--no-visit")
    assert code == 0, found


def test_a_firewall_that_is_out_of_reach_is_a_fault(guard: Daemon) -> None:
    guard.within = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    code, found = findings(guard, "--no-visit")
    assert code == 1
    assert "fault" in {found[what] for what in found if what.startswith("firewall nftables")}


def test_the_name_of_this_host_in_the_log_is_found_and_used(lab: Lab, guard: Daemon) -> None:
    """The host and its main.cf have new names, Postfix still runs with the old one."""
    renamed = guard.home / "postfix"
    shutil.copytree(lab.mail.config, renamed)
    main = (renamed / "main.cf").read_text()
    assert "myhostname = mx.example.test" in main
    (renamed / "main.cf").write_text(main.replace("mx.example.test", "renamed.example.org"))
    guard._base = guard._base.replace(str(lab.mail.config), str(renamed))
    guard.configure("")
    guard.within = ("unshare", "--uts", "sh", "-c", 'hostname renamed && exec "$@"', "sh")
    guard.start()
    for known in (False, True):
        code, found = findings(guard)
        names = [what for what in found if what.startswith("host name: this host is ")]
        assert [found[what] for what in names] == ([] if known else ["ok"]), found
    assert code == 0, found
    guard.stop()
    guard.start()
    code, found = findings(guard)
    assert code == 0, found
    assert not any(what.startswith("host name") for what in found)
