"""`throttled status`, as text and as JSON."""

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.control.requests import Status
from throttled.control.results import PatternStatus, StatusResult, TailStatus, Totals
from throttled.model import Finding

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

NOW = 1_790_000_000.0
RESULT = StatusResult(
    version="0.1.0",
    backend="nftables",
    mode="enforce",
    pid=812,
    started=NOW,
    uptime=277_000.0,
    tails=[
        TailStatus("/var/log/mail.log", True, 1234, 5, 12.34, NOW, ["a problem\x1b"]),
        TailStatus("/var/log/other.log", False, 0, 0, 0.0, 0.0),
    ],
    clients=1234,
    max_clients=200_000,
    throttled={"mx": 12, "submission": 3},
    banned={"mx": 1200},
    packets_dropped=123_456,
    desired=1215,
    enforced=1215,
    counted=True,
    health=[Finding("ok", "all is well"), Finding("fault", "full disk", "free some")],
    events={"connect": 10, "disconnect": 12, "auth_failure": 3, "reject": 1},
    lines=1_000_000,
    lines_lost=2,
    errors=0,
)


def test_text(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = RESULT
    ended = cli("status")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "throttled  0.1.0, pid 812, up 3d4h (since 2026-09-21 16:13:20)",
        "firewall   nftables, mode enforce",
        "log        /var/log/mail.log",
        "           12.3 lines/s, 1,234 bytes behind, last line 2026-09-21 16:13:20",
        r"           a problem\x1b",
        "           /var/log/other.log",
        "           does not exist yet",
        "clients    1,234 tracked of 200,000 at most",
        "throttled  12 in mx, 3 in submission",
        "banned     1,200 in mx, 0 in submission",
        "dropped    123,456 packets",
        "kernel     has 1,215 of 1,215 elements, counted by the kernel",
        "lines      1,000,000 read, 2 lost by the logger, 0 errors",
        "events     disconnect 12          connect 10             auth_failure 3",
        "           reject 1",
        "ok         all is well",
        "error      full disk",
        "           free some",
    ]
    assert max(map(len, ended.out.splitlines())) <= 80
    assert daemon.asked == [Status()]


def test_findings_are_coloured_on_a_terminal(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer = RESULT
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\n\x1b[31merror\x1b[0m      full disk\n" in cli("status").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\nerror      full disk\n" in cli("status").out


def test_yesterday_and_today(cli: "Cli", daemon: "Daemon") -> None:
    days = [Totals(NOW, 9_876_543, 1_234_567, 34_567, 12_345, 1_234, 123_456_789), Totals(NOW)]
    daemon.answer = replace(RESULT, days=days)
    lines = cli("status").out.splitlines()
    at = lines.index("yesterday  9,876,543 sessions, 1,234,567 mails, 34,567 logins")
    assert lines[at + 1 : at + 4] == [
        "           12,345 throttled, 1,234 banned, 123,456,789 packets dropped",
        "today      0 sessions, 0 mails, 0 logins",
        "           0 throttled, 0 banned, 0 packets dropped",
    ]
    daemon.answer = replace(RESULT, days=days, would=True)
    observed = "12,345 would have been throttled, 1,234 would have been banned, "
    assert f"           {observed}123,456,789 packets dropped\n" in cli("status").out
    assert cli("status", "--json").json()["days"][0]["begin"] == "2026-09-21T16:13:20.000+02:00"


def test_patterns_follow_the_logs(cli: "Cli", daemon: "Daemon") -> None:
    patterns = [PatternStatus("/a/*.log", 2, 2), PatternStatus("/b/*", 64, 1000)]
    daemon.answer = replace(RESULT, patterns=patterns)
    out = cli("status").out
    assert "           /a/*.log: 2 files\n" in out
    assert "           /b/*: 64 files of 1,000 that match\n" in out


def test_exemptions_are_counted_apart(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(RESULT, exempt={"mx": 2})
    lines = cli("status").out.splitlines()
    at = lines.index("banned     1,200 in mx, 0 in submission")
    assert lines[at + 1] == "exempt     2 in mx, 0 in submission"


def test_json(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = RESULT
    status = cli("status", "--json").json()
    assert status["started"] == "2026-09-21T16:13:20.000+02:00"
    assert status["tails"][1]["last_line"] is None
    assert status["banned"] == {"mx": 1200}
    assert status["health"][1] == {
        "state": "fault",
        "what": "full disk",
        "hint": "free some",
        "key": "",
    }
    assert set(status) == set(StatusResult.__struct_fields__)


def test_no_daemon(cli: "Cli") -> None:
    ended = cli("status")
    assert (ended.code, ended.out) == (3, "")
    assert "hint: start it" in ended.err
