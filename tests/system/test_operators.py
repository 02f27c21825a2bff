"""What operators do, with the daemon and after it was killed: on a real store and a real kernel."""

import json
import signal
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.mail.postfix import Lab

pytestmark = [pytest.mark.root, pytest.mark.postfix]

ONE = "198.51.100.7"
OTHER = "203.0.113.9"


def kernel(lab: Lab) -> str:
    return lab.server.run("nft", "list", "ruleset").stdout


def files(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


def test_without_a_daemon_everything_can_be_seen_and_undone(lab: Lab, guard: Daemon) -> None:
    guard.start()
    for subject in (ONE, OTHER, "2001:db8::7", "198.51.100.0/24"):
        assert guard.command("ban", subject, "--for", "1h").returncode == 0
    guard.signal(signal.SIGKILL)
    guard.kill()
    assert ONE in kernel(lab)
    assert guard.ask("list")["total"] == 8
    assert len(guard.ask("explain", ONE)["active"]) == 4
    status = guard.command("status", "--json")
    assert status.returncode == 3
    shown = json.loads(status.stdout)
    assert (shown["desired"], shown["enforced"], shown["pid"]) == (8, 8, 0)
    unbanned = guard.command("unban", ONE)
    assert (unbanned.returncode, "still banned by 198.51.100.0/24" in unbanned.stdout) == (1, True)
    assert f"{ONE} timeout" not in kernel(lab)
    assert guard.command("allow", OTHER).returncode == 0
    assert OTHER not in kernel(lab)
    assert [row["op"] for row in guard.ask("audit")["rows"]][:3] == ["allow", "unban", "ban"]
    guard.start()
    assert {row.subject for row in guard.rows()} == {"2001:db8::7", "198.51.100.0/24"}
    assert guard.command("ban", OTHER).returncode == 1  # allowed
    rows = guard.ask("audit")["rows"]
    assert [(row["op"], row["ok"], row["offline"]) for row in rows[:2]] == [
        ("ban", False, False),
        ("allow", True, True),
    ]
    assert rows[0]["program"] == "throttled"


def test_purge_leaves_nothing(lab: Lab, guard: Daemon) -> None:
    lab.server.run("nft", "add", "table", "inet", "somebody")
    before, had = kernel(lab), files(guard.home)
    guard.start()
    assert guard.command("ban", ONE).returncode == 0
    refused = guard.command("purge", "--yes")
    assert (refused.returncode, "a daemon is running" in refused.stderr) == (1, True)
    assert ONE in kernel(lab)
    guard.signal(signal.SIGKILL)
    guard.kill()
    assert "--yes" in guard.command("purge").stderr  # nobody to ask
    assert ONE in kernel(lab)
    assert guard.command("purge", "--yes").returncode == 0
    assert kernel(lab) == before
    assert guard.ask("list")["total"] == 2
    assert guard.ask("audit")["rows"][0]["op"] == "purge"
    removed = guard.ask("purge", "--all", "--yes")
    assert not removed["faults"]
    assert kernel(lab) == before
    assert files(guard.home) - had <= {"daemon.log", "notify.sock"}  # the lab's own


def test_a_list_goes_in_with_its_bad_lines_named_and_comes_out_again(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    guard.start()
    good = [f"198.18.{n >> 8}.{n & 255}" for n in range(5000)]
    path = tmp_path / "list"
    path.write_text(
        "# a list\n"
        + "".join(f"{each} ban mx 1h # spam\n" for each in good)
        + "nonsense ban\n127.0.0.1 ban\n2001:db8:1::/64 throttle 2h\n.example.com allow\n"
        + "203.0.0.0/8 ban\n"
    )
    done = guard.command("import", str(path), "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["done"], result["confirmed"]) == (5002, True)
    assert [bad["line"] for bad in result["skipped"]] == [5002, 5003, 5006]
    assert "loopback" in result["skipped"][1]["why"]
    assert guard.ask("list", "198.18.0.0/15")["total"] == 5000
    assert good[-1] in kernel(lab)
    text = guard.command("export", "banned").stdout
    assert text.count(" ban mx 20") == 5000
    assert f"{good[0]} ban mx" in text
    exported = tmp_path / "exported"
    exported.write_text(guard.command("export", "banned", "--format", "json").stdout)
    assert guard.command("export", "allowed").stdout == ".example.com allow\n"
    assert guard.command("unban", "--all").returncode == 0
    again = guard.command("import", str(exported))
    assert (again.returncode, again.stdout) == (0, "5,002 done, 0 skipped\n")
    assert guard.ask("list", "198.18.0.0/15")["total"] == 5000
    assert guard.status().health == []
