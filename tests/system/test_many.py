"""Many entries at once: a real daemon, store and kernel, and lists with 10,000 entries."""

import json
from pathlib import Path

import pytest

from lab.daemon.daemon import THROTTLED, Daemon
from lab.mail.postfix import Lab

pytestmark = [pytest.mark.root, pytest.mark.postfix]

COUNT = 10_000


def kernel(lab: Lab) -> str:
    return lab.server.run("nft", "list", "ruleset").stdout


def test_ten_thousand_from_standard_input_and_by_a_filter(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    guard.start()
    names = [f"198.18.{n >> 8}.{n & 255}" for n in range(COUNT)]
    path = tmp_path / "list"
    path.write_text("".join(f"{name} mx 1h # spam\n" for name in names))
    assert guard.command("import", "--as", "ban", str(path)).returncode == 0
    assert guard.command("ban", "203.0.113.7", "--scope", "mx").returncode == 0
    done = guard.command("unban", "--within", "198.18.0.0/17", "--json")

    result = json.loads(done.stdout)
    assert (done.returncode, result["done"], result["confirmed"]) == (0, COUNT, True)
    assert "198.18." not in kernel(lab)
    assert guard.ask("list")["total"] == 1
    assert guard.command("import", "--as", "ban", str(path)).returncode == 0
    words = (THROTTLED, "--config", str(guard.config), "unban", "-", "--json")
    done = lab.server.run(*words, stdin=path.read_text(), check=False)
    result = json.loads(done.stdout)
    assert (done.returncode, result["done"], result["confirmed"]) == (0, COUNT, True)
    assert "198.18." not in kernel(lab)
    rows = guard.ask("audit")["rows"]
    assert [(row["op"], row["outcome"]) for row in rows] == [
        ("unban-many", f"{COUNT} done, 0 refused"),
        ("import", f"{COUNT} done, 0 refused"),
        ("unban-many", f"{COUNT} done, 0 refused"),
        ("ban", "203.0.113.7 is banned in mx"),
        ("import", f"{COUNT} done, 0 refused"),
    ]
    assert guard.status().health == []


def test_a_list_by_name_is_replaced_and_removed(lab: Lab, guard: Daemon, tmp_path: Path) -> None:
    guard.start()
    path = tmp_path / "drop.txt"
    path.write_text("; DROP\n198.51.100.0/24 ; SBL1\n203.0.112.0/20 ; SBL2\n")
    assert guard.command("ban", "198.51.100.7", "--for", "1h").returncode == 0
    done = guard.command("import", "--list", "drop", "--as", "ban", str(path))
    assert (done.returncode, done.stdout) == (0, "list drop: 4 banned\n")
    assert "203.0.112.0" in kernel(lab)
    rows = guard.ask("list", "--list", "drop")["rows"]
    assert {(row["subject"], row["why"], row["origin"]) for row in rows} == {
        ("198.51.100.0/24", "SBL1", "list:drop"),
        ("203.0.112.0/20", "SBL2", "list:drop"),
    }
    path.write_text("; DROP\n198.51.100.0/24 ; SBL1\n")
    done = guard.command("import", "--list", "drop", "--as", "ban", str(path))
    assert (done.returncode, done.stdout) == (0, "list drop: 1 unchanged, 2 removed\n")
    assert "203.0.112.0" not in kernel(lab)
    path.write_text("<html>")
    assert guard.command("import", "--list", "drop", str(path)).returncode == 2
    assert guard.ask("list", "--list", "drop")["total"] == 2
    assert guard.command("unban", "--list", "drop").stdout == "2 unbanned\n"
    assert {row.subject for row in guard.rows()} == {"198.51.100.7"}
    outcomes = [row["outcome"] for row in guard.ask("audit")["rows"]]
    assert outcomes[:2] == ["2 done, 0 refused", "0 done, 0 refused"]
