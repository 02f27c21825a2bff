"""`throttled replay` on a log written here."""

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.network.netns import DEADMAN

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

PROGRAM = str(Path(sys.executable).with_name("throttled"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """One client that sends HTTP eleven times, one that delivers mail."""
    lines = []
    for n in range(11):
        head = f"2026-07-22T10:00:{n:02}+02:00 mx postfix/smtpd[{n}]: "
        lines += [
            f"{head}connect from unknown[203.0.113.7]",
            f"{head}warning: non-SMTP command from unknown[203.0.113.7]: GET / HTTP/1.0",
            f"{head}disconnect from unknown[203.0.113.7] unknown=0/1 commands=0/1",
        ]
    path = tmp_path / "mail.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_table_and_summary(cli: "Cli", log: Path) -> None:
    ended = cli("replay", str(log))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("2026-07-22 10:00:0")
    assert lines[0].split()[2:6] == ["throttle", "203.0.113.7", "mx", "10m"]
    assert lines[1].split()[2:6] == ["ban", "203.0.113.7", "mx", "10m"]
    assert lines[lines.index("") + 1] == "33 lines, 33 events"
    table = lines[lines.index("Subjects that each limit would have hit:") + 1 :]
    assert [row.split() for row in table[:2]] == [
        ["throttled", "banned", "reported", "limit"],
        ["1", "1", "0", "errors"],
    ]
    top = lines[lines.index("Banned most often:") + 1 :]
    assert top[0].split() == ["subject", "bans", "latest", "mails", "logins", "limit"]
    assert top[1].split() == ["203.0.113.7", "1", "2026-07-22", "10:00", "0", "0", "errors"]
    assert top[-1] == "No client that delivered mail or logged in would have been banned."
    assert max(map(len, lines[lines.index("") :])) <= 80


def test_those_who_would_only_be_throttled_are_named(cli: "Cli", log: Path) -> None:
    five = [line for line in log.read_text().splitlines() if re.search(r"smtpd\[[0-4]\]", line)]
    throttled = "\n".join(five).replace("203.0.113.7", "203.0.113.8")
    log.write_text(f"{throttled}\n{log.read_text()}")
    lines = cli("replay", "--summary-only", str(log)).out.splitlines()
    at = lines.index("Throttled most often, and never banned:")
    assert lines[at + 1].split() == ["subject", "throttles", "latest", "mails", "logins", "limit"]
    row = ["203.0.113.8", "1", "2026-07-22", "10:00", "0", "0", "errors"]
    assert [line.split() for line in lines[at + 2 : at + 4]] == [row, []]
    summary = cli("replay", "--summary-only", "--json", str(log)).json()["summary"]
    (one,) = summary["throttled"]
    assert (one["subject"], one["throttles"], one["limit"]) == ("203.0.113.8", 1, "errors")
    assert one["last"].startswith("2026-07-22T10:00:")


def test_nobody_is_said_to_be_nobody(cli: "Cli", log: Path) -> None:
    banned = cli("replay", "--summary-only", str(log)).out
    assert "Nobody else would have been throttled." in banned
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    good = cli("replay", "--summary-only", str(log)).out
    assert "\nNobody would have been banned.\n\nNobody would have been throttled.\n" in good
    log.write_text("no log\n")
    assert "Nobody" not in cli("replay", "--summary-only", str(log)).out


def test_the_summary_only(cli: "Cli", log: Path) -> None:
    assert cli("replay", "--summary-only", str(log)).out.startswith("33 lines, 33 events\n")
    ended = cli("replay", "--summary-only", "--json", str(log))
    assert list(ended.json()) == ["summary"]


def test_without_a_file_the_logs_of_this_host_are_read(
    cli: "Cli", log: Path, config_file: Path
) -> None:
    named = cli("replay", str(log))
    assert "events" in named.out
    with config_file.open("a") as file:
        file.write(f'[log]\nfiles = ["{log}"]\njournal = false\n')
    assert cli("replay") == named


def test_json(cli: "Cli", log: Path) -> None:
    ended = cli("replay", "--json", str(log))
    throttle, ban, *rest = [json.loads(line) for line in ended.out.splitlines()]
    assert list(throttle)[:8] == [
        "time",
        "action",
        "subject",
        "scope",
        "limit",
        "level",
        "until",
        "why",
    ]
    assert (throttle["action"], throttle["level"]) == ("throttle", 0)
    assert (ban["action"], ban["subject"], ban["limit"], ban["level"]) == (
        "ban",
        "203.0.113.7",
        "errors",
        1,
    )
    assert ban["time"].startswith("2026-07-22T10:00:")
    assert ban["until"].startswith("2026-07-22T10:10:")
    assert rest[-1]["summary"]["lines"] == 33
    assert rest[-1]["summary"]["first"] == "2026-07-22T10:00:00.000+02:00"


def test_the_configuration_counts(cli: "Cli", log: Path, config_file: Path) -> None:
    text = config_file.read_text()
    config_file.write_text(text + '[protect]\nnetworks = ["203.0.113.0/24"]\n')
    assert "Banned most often" not in cli("replay", str(log)).out


def test_good_senders_that_would_be_banned_are_named(cli: "Cli", log: Path) -> None:
    good = (
        "2026-07-22T09:00:00+02:00 mx postfix/smtpd[99]: disconnect from unknown[203.0.113.7] "
        "ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5\n"
    )
    log.write_text(good + log.read_text())
    lines = cli("replay", str(log)).out.splitlines()
    assert lines[-3] == "Banned although they delivered mail or logged in:"
    assert lines[-1].split() == ["203.0.113.7", "1", "2026-07-22", "10:00", "1", "0", "errors"]
    (good,) = cli("replay", "--summary-only", "--json", str(log)).json()["summary"][
        "good_and_banned"
    ]
    assert (good["subject"], good["deliveries"]) == ("203.0.113.7", 1)
    assert good["last"].startswith("2026-07-22T10:00:")


def test_compressed_and_nothing(cli: "Cli", log: Path, tmp_path: Path) -> None:
    (tmp_path / "mail.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    assert "33 lines" in cli("replay", str(tmp_path / "mail.log.1.gz")).out
    (tmp_path / "empty").write_text("")
    assert cli("replay", str(tmp_path / "empty")).out == "\n0 lines, 0 events\n"
    (tmp_path / "other").write_text("root:x:0:0\n")
    out = cli("replay", str(tmp_path / "other")).out
    assert out.startswith("\n1 lines, 0 events\nno events found: is it Postfix's log?")
    assert cli("replay", str(tmp_path / "absent")).code == 1


def _on_a_terminal(*arguments: str) -> list[str]:
    """Run a command on a terminal of 60 columns; return its lines as they can be read there.

    However often a bar was drawn: each time its line is erased first (EL), and written again.
    """
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    command = [PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                shown += os.read(parent, 65536)
            except OSError:  # EIO: the other end is closed
                break
        assert process.wait(DEADMAN) == 0
    os.close(parent)
    lines = [re.split(r"\x1b\[2K", line)[-1] for line in shown.decode().split("\n")]
    if "100%" in shown.decode():
        lines.append("100%")
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line) for line in lines]


def test_progress_on_a_terminal(log: Path, config_file: Path) -> None:
    lines = _on_a_terminal("--config", str(config_file), "replay", str(log))
    assert "100%" in lines
    rows = [line for line in lines if " throttle " in line or " ban " in line]
    assert [row.split()[2] for row in rows] == ["throttle", "ban"]
    assert [len(row) for row in rows] == [60, 60]  # cut there, and without the bar before it


def test_objects_on_a_terminal(log: Path, config_file: Path) -> None:
    """Neither the bar nor the terminal's width may break them."""
    lines = _on_a_terminal("--config", str(config_file), "replay", "--json", str(log))
    objects = [json.loads(line) for line in lines if line]
    assert [each.get("action") for each in objects] == ["throttle", "ban", None]
