"""`throttled explain`, asked of a daemon."""

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from throttled.control.protocol import AllowRow, Explain, ExplainResult, LogText, MeterRow
from throttled.model import JOURNAL, Decision, Past, Rate, Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

NOW = 1_790_000_000.0


def _result() -> ExplainResult:
    until = time.time() + 590.5
    return ExplainResult(
        subject="198.51.100.7",
        network="198.51.100.0/24",
        protected="in Postfix's mynetworks",
        active=[Snapshot("198.51.100.7", "mx", "ban", "auth", 2, NOW, until, "61 > 60", 1234)],
        meters=[
            MeterRow("auth", "mx", 61, 10, 60, 600.0),
            MeterRow("connections", "submission", 1, 120, None, 60.0),
        ],
        sessions=3,
        lines=[
            LogText(NOW, "/var/log/mail.log", 12345, "Nov 22 caf\xc3\xa9 \x1b\xe2\x80\xae"),
            LogText(0.0, "/var/log/mail.log", 99, ""),
            LogText(NOW, JOURNAL, 1_790_000_000_000_000, "Nov 22"),
        ],
        decisions=[Decision(NOW, "ban", "198.51.100.7", "mx", "auth", 2, NOW + 600, "61 > 60")],
        past=Past(2, NOW, "ban", until, 5, 2, 1, NOW, NOW),
        allowed=[AllowRow("198.51.100.0/24", NOW, None, "n\x1b"), AllowRow("x", NOW, NOW)],
        next="nothing: protected",
        hint="looks like a health check",
    )


def test_text(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = _result()
    ended = cli("explain", "::ffff:198.51.100.7")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "198.51.100.7 (network 198.51.100.0/24)",
        "Protected: in Postfix's mynetworks",
        r"On the allowlist: 198.51.100.0/24, since 2026-09-21 16:13:20, no end n\x1b",
        "On the allowlist: x, since 2026-09-21 16:13:20, until 2026-09-21 16:13:20",
        "Active:",
        "  ban number 2 of 198.51.100.7 in mx since 2026-09-21 16:13:20, 9m50s left",
        "    auth: 61 > 60",
        "    1,234 packets dropped",
        "Meters:",
        "  limit                scope        value    soft    hard within",
        "  auth                 mx              61      10      60 10m",
        "  connections          submission       1     120       - 1m",
        "Sessions open: 3",
        "Log lines that counted:",
        "  /var/log/mail.log, byte 12345",
        r"    Nov 22 café \x1b\u202e",
        "  /var/log/mail.log, byte 99",
        "    (no longer in the log)",
        "  journal",
        "    Nov 22",
        "Decisions, the latest first:",
        "  2026-09-21 16:13:20 ban in mx, auth: 61 > 60",
        "Bans so far: 2, the latest until 2026-09-21 16:13:20",
        "Good evidence: 5 messages, days with mail: 2; 1 logins, the latest 2026-09-21 16:13:20",
        "Exempt until 2026-09-21 16:13:20",
        "Next: nothing: protected",
        "Hint: looks like a health check",
    ]
    assert daemon.asked == [Explain("198.51.100.7")]


def test_who_is_known_good(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(_result(), protected="", known_good=("mx", "submission"))
    second = cli("explain", "198.51.100.7").out.splitlines()[1]
    assert second == "Known good in mx, submission: never delayed as a stranger"


def test_a_rate_and_an_exemption(cli: "Cli", daemon: "Daemon") -> None:
    (ban,) = _result().active
    slow = replace(ban, action="throttle", level=0, rate=Rate(6, 3600.0, 2))
    daemon.answer = replace(_result(), active=[slow, replace(ban, action="exempt", level=0)])
    lines = cli("explain", "198.51.100.7").out.splitlines()
    since = "since 2026-09-21 16:13:20, 9m50s left"
    at = lines.index("Active:")
    assert lines[at + 1 : at + 6] == [
        f"  throttle to 6/1h, 2 at once, of 198.51.100.7 in mx {since}",
        "    auth: 61 > 60",
        "    1,234 packets dropped",
        f"  exemption of 198.51.100.7 in mx {since}",
        "    auth: 61 > 60",
    ]


def test_an_unknown_client(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ExplainResult(
        "2001:db8::/64", "", "", [], [], 0, [], [], Past(), [], "nothing yet"
    )
    assert cli("explain", "2001:db8::/64").out.splitlines() == [
        "2001:db8::/64",
        "Active: none",
        "Sessions open: 0",
        "Bans so far: none",
        "Good evidence: none",
        "Next: nothing yet",
    ]


def test_json(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(_result(), protected="")
    result = cli("explain", "198.51.100.7", "--json").json()
    assert result["lines"][0]["text"] == "Nov 22 café \x1b\u202e"
    assert result["lines"][1]["time"] is None
    assert result["meters"][1]["hard"] is None
    assert result["past"]["last_login"] == "2026-09-21T16:13:20.000+02:00"
    assert result["decisions"][0]["time"] == "2026-09-21T16:13:20.000+02:00"
    assert result["decisions"][0]["origin"] == "log"
