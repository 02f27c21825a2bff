"""`throttled explain`, asked of a daemon."""

import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.cli import explained
from throttled.control.requests import Explain
from throttled.control.results import AllowRow, ExplainResult, LogText, MeterRow
from throttled.log_paths import JOURNAL
from throttled.model import Decision, Past, Rate, Scope, Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

NOW = 1_790_000_000.0
A = "198.51.100.7"
LOG = "/var/log/mail.log"
PORTS: dict[Scope, tuple[int, ...]] = {"mx": (25,), "submission": (465, 587)}
NOTHING = ExplainResult(A, "198.51.100.0/24", "", [], [], 0, [], [], Past(), [], "nothing")
BAN = Snapshot(A, "mx", "ban", "errors", 1, NOW, NOW + 600.0, "55 points, hard limit 50")
GARBAGE = LogText(NOW, LOG, 7, "Nov 22 GET /", "non_smtp_command")


def _result() -> ExplainResult:
    until = time.time() + 9030
    return ExplainResult(
        subject=A,
        network="198.51.100.0/24",
        protected="",
        active=[Snapshot(A, "mx", "ban", "auth", 2, NOW, until, "61 > 60", 1234)],
        meters=[
            MeterRow("auth", "mx", 61, 10, 60, 600.0),
            MeterRow("errors", "mx", 0, 20, 50, 600.0),
            MeterRow("connections", "submission", 1, 120, None, 60.0),
        ],
        sessions=3,
        lines=[
            LogText(NOW - 60, LOG, 12345, "Nov 22 first", "auth_failure"),
            LogText(NOW, LOG, 12399, "Nov 22 caf\xc3\xa9 \x1b\xe2\x80\xae", "auth_failure"),
            LogText(0.0, LOG, 99, ""),
            LogText(NOW, JOURNAL, 1_790_000_000_000_000, "Nov 22", "reject", "relay"),
        ],
        decisions=[Decision(NOW - n, "ban", A, "mx", "auth", 2, NOW, "61 > 60") for n in range(7)],
        past=Past(2, NOW, "ban", until, 5, 2, 1, NOW, NOW),
        allowed=[AllowRow("198.51.100.0/24", NOW, None, "n\x1b"), AllowRow("x", NOW, NOW)],
        next="the ban ends",
        hint="looks like a health check",
        name="host\x1b.example",
        accounts=["alice", "b\xc3\xb6b\x1b"],
        ports=PORTS,
    )


def test_text(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = _result()
    ended = cli("explain", f"::ffff:{A}")
    assert (ended.code, ended.err) == (0, "")
    first, *lines = ended.out.splitlines()
    assert first.startswith("Banned on port 25 from 2026-09-21 16:13 to ")
    assert first.endswith(f": 2 failed logins (auth: 61 > 60). To unban: throttled unban {A}")
    assert lines == [
        rf"Client: {A} (network 198.51.100.0/24), host name: host\x1b.example",
        r"Accounts in its log lines: alice, böb\x1b",
        r"On the allowlist: 198.51.100.0/24, since 2026-09-21 16:13:20, no end n\x1b",
        "On the allowlist: x, since 2026-09-21 16:13:20, until 2026-09-21 16:13:20",
        "Active:",
        f"  ban number 2 of {A} in mx since 2026-09-21 16:13:20, 2h30m left",
        "    auth: 61 > 60",
        "    origin: this host's log",
        "    1,234 packets dropped",
        "Meters:",
        "  limit                scope        value    soft    hard within",
        "  auth                 mx              61      10      60 10m",
        "  connections          submission       1     120       - 1m",
        "  1 at 0, shown with --all",
        "Sessions open: 3",
        "Log lines that counted:",
        "  2 failed logins, from 2026-09-21 16:12 to 2026-09-21 16:13, the latest:",
        f"    {LOG}, byte 12399",
        r"    Nov 22 café \x1b\u202e",
        "  1 line no longer in the log:",
        f"    {LOG}, byte 99",
        "  1 relay attempt:",
        "    journal",
        "    Nov 22",
        "Decisions, the latest first:",
        *(f"  2026-09-21 16:13:{20 - n} ban in mx, auth: 61 > 60" for n in range(5)),
        "  2 earlier ones, shown with --all",
        "Bans so far: 2, the latest until 2026-09-21 16:13:20",
        "Good evidence: 5 messages, days with mail: 2; 1 logins, the latest 2026-09-21 16:13:20",
        "Exempt until 2026-09-21 16:13:20",
        "Next: the ban ends",
        "Hint: looks like a health check",
    ]
    assert daemon.asked == [Explain(A)]


def test_the_answer_is_bold_on_a_terminal(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer = NOTHING
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    first, second, *_ = cli("explain", A).out.splitlines()
    assert first == "\x1b[1mNot throttled or banned; nothing is known of it.\x1b[0m"
    assert "\x1b" not in second


def test_all_hides_nothing(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = _result()
    lines = cli("explain", A, "--all").out.splitlines()
    assert not [line for line in lines if "--all" in line or "the latest:" in line]
    assert "  errors               mx               0      20      50 10m" in lines
    assert "    Nov 22 first" in lines
    assert len([line for line in lines if line.endswith("ban in mx, auth: 61 > 60")]) == 7


MANUAL = replace(BAN, limit="operator", why="manual, uid 0", origin="operator", level=0)
SLOW = replace(BAN, action="throttle", limit="connections", why="61 > 60")
AROUND = replace(BAN, subject="198.51.100.0/22", why="4 of it", limit="network")
EXEMPT = replace(MANUAL, action="exempt", why="unbanned and exempt")
WHEN = "from 2026-09-21 16:13 to 2026-09-21 16:23"
CONNECTED = LogText(NOW, LOG, 1, "connect", "connect")
REASON = "errors: 55 points, hard limit 50"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "Not throttled or banned; nothing is known of it."),
        ({"past": Past(1, NOW)}, "Not throttled or banned."),
        ({"meters": [MeterRow("errors", "mx", 3, 20, 50, 600.0)]}, "Not throttled or banned."),
        ({"proxied": [BAN]}, "Not throttled or banned, as it is behind a proxy."),
        (
            {"protected": "loopback", "active": [AROUND]},
            "Never throttled or banned: loopback.",
        ),
        (
            {"active": [BAN], "lines": [*[CONNECTED] * 9, GARBAGE], "ports": PORTS},
            (
                f"Banned on port 25 {WHEN}: 1 non-SMTP command ({REASON}). To unban: "
                f"throttled unban {A}"
            ),
        ),
        (
            {"active": [SLOW], "lines": [*[CONNECTED] * 2, *[GARBAGE] * 3]},
            (
                f"Throttled in mx {WHEN}: 2 connections (connections: 61 > 60). "
                f"To unban: throttled unban {A}"
            ),
        ),
        (
            {"active": [BAN], "lines": [CONNECTED, *[GARBAGE] * 15]},
            (
                f"Banned in mx {WHEN}: at least 15 non-SMTP commands ({REASON}). To unban: "
                f"throttled unban {A}"
            ),
        ),
        (
            {"active": [AROUND], "lines": [GARBAGE]},
            (
                f"Banned with its network 198.51.100.0/22 in mx {WHEN}: network: 4 of it. "
                "To unban: throttled unban 198.51.100.0/22"
            ),
        ),
        (
            {"active": [BAN], "would": True},
            f"Would be banned in mx {WHEN}: {REASON}. To unban: throttled unban {A}",
        ),
        (
            {"active": [MANUAL, replace(MANUAL, scope="submission")], "ports": PORTS},
            (
                f"Banned on ports 25, 465 and 587 {WHEN}: operator: manual, uid 0. To unban: "
                f"throttled unban {A}"
            ),
        ),
        (
            {"active": [MANUAL, replace(MANUAL, scope="submission")], "lines": [GARBAGE]},
            (
                f"Banned in mx and submission {WHEN}: operator: manual, uid 0. To unban: "
                f"throttled unban {A}"
            ),
        ),
        (
            {"active": [replace(SLOW, scope="submission"), AROUND, SLOW]},
            (
                f"Banned with its network 198.51.100.0/22 in mx {WHEN}: network: 4 of it. "
                f"Throttled in submission {WHEN}: connections: 61 > 60. "
                f"To unban: throttled unban 198.51.100.0/22 {A}"
            ),
        ),
        (
            {"active": [BAN, AROUND]},
            (f"Banned in mx {WHEN}: {REASON}. To unban: throttled unban {A} 198.51.100.0/22"),
        ),
        (
            {"active": [EXEMPT, AROUND]},
            f"Exempt in mx {WHEN}: operator: unbanned and exempt.",
        ),
        (
            {"active": [replace(SLOW, rate=Rate(6, 3600.0, 2))]},
            (
                f"Throttled to 6/1h in mx {WHEN}: connections: 61 > 60. "
                f"To unban: throttled unban {A}"
            ),
        ),
    ],
)
@pytest.mark.usefixtures("cli")  # its time zone
def test_the_first_line_answers(known: dict[str, object], said: str) -> None:
    assert explained.answer(replace(NOTHING, **known)) == said


@pytest.mark.parametrize(
    ("why", "limit", "said"),
    [
        ("banned by mx2 for errors: 56, limit 50", "errors", "errors: 56, limit 50"),
        ("banned by mx2 for x: 9, limit 5; not banned: y", "peer", "x: 9, limit 5; not banned: y"),
        ("banned by mx2", "operator", "manual"),
        ("11 > 10; the last of them at mx2", "auth", "auth: 11 > 10; the last of them at mx2"),
    ],
)
def test_the_first_line_names_the_host_of_the_fleet(why: str, limit: str, said: str) -> None:
    row = replace(BAN, origin="peer:mx2", why=why, limit=limit)
    text = explained.answer(replace(NOTHING, active=[row]))
    assert text.startswith("Banned by host mx2 of the fleet in mx from ")
    assert f": {said}. To unban:" in text


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("log", "this host's log"),
        ("operator", "an operator"),
        ("list:DROP", "list DROP"),
        ("peer:mx2", "host mx2"),
        ("proxy", "this host's log, behind a proxy"),
        ("later", "later"),
    ],
)
def test_an_origin_in_words(origin: str, words: str) -> None:
    assert explained.origin(origin) == words


def test_that_only_the_latest_lines_are_known_is_said(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(NOTHING, lines=[GARBAGE] * 15)
    assert "Log lines that counted:" in cli("explain", A).out
    daemon.answer = replace(NOTHING, lines=[GARBAGE] * 16)
    assert "Log lines that counted, the latest 16:" in cli("explain", A).out


def test_lines_of_other_kinds(cli: "Cli", daemon: "Daemon") -> None:
    lines = [
        LogText(0.0, LOG, 1, "other"),
        LogText(NOW, LOG, 2, "peak", "peak"),
        LogText(NOW, LOG, 3, "refused", "reject", "later"),
        LogText(NOW, LOG, 4, "refused", "reject", "later"),
    ]
    daemon.answer = replace(NOTHING, lines=lines)
    shown = cli("explain", A).out.splitlines()
    assert [line for line in shown if line.endswith(":")] == [
        "Log lines that counted:",
        "  1 other line:",
        "  1 peak:",
        "  2 refused commands, at 2026-09-21 16:13, the latest:",
    ]


def test_who_is_known_good(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(_result(), protected="", known_good=("mx", "submission"))
    lines = cli("explain", "198.51.100.7").out.splitlines()
    assert "Known good in mx, submission: never delayed as a stranger" in lines


def test_a_rate_and_an_exemption(cli: "Cli", daemon: "Daemon") -> None:
    (ban,) = _result().active
    slow = replace(ban, action="throttle", level=0, rate=Rate(6, 3600.0, 2))
    daemon.answer = replace(_result(), active=[slow, replace(ban, action="exempt", level=0)])
    lines = cli("explain", A).out.splitlines()
    since = "since 2026-09-21 16:13:20, 2h30m left"
    at = lines.index("Active:")
    assert lines[at + 1 : at + 8] == [
        f"  throttle to 6/1h, 2 at once, of {A} in mx {since}",
        "    auth: 61 > 60",
        "    origin: this host's log",
        "    1,234 packets dropped",
        f"  exemption of {A} in mx {since}",
        "    auth: 61 > 60",
        "    origin: this host's log",
    ]


def test_behind_a_proxy(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(NOTHING, proxied=[replace(BAN, origin="proxy")])
    lines = cli("explain", A).out.splitlines()
    at = lines.index("Behind a proxy, so not applied:")
    assert lines[at + 1].startswith(f"  would ban of {A} in mx")


def test_an_unknown_client(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ExplainResult(
        "2001:db8::/64", "", "", [], [], 0, [], [], Past(), [], "nothing yet"
    )
    assert cli("explain", "2001:db8::/64").out.splitlines() == [
        "Not throttled or banned; nothing is known of it.",
        "Client: 2001:db8::/64, host name: unknown",
        "Sessions open: 0",
        "Bans so far: none",
        "Good evidence: none",
        "Next: nothing yet",
    ]


def test_meters_that_are_all_at_zero(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = replace(NOTHING, meters=[MeterRow("errors", "mx", 0, 20, 50, 600.0)])
    assert "Meters: 1 at 0, shown with --all" in cli("explain", A).out.splitlines()


def test_json(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = _result()
    result = cli("explain", A, "--json").json()
    assert result["lines"][1]["text"] == "Nov 22 café \x1b\u202e"
    assert result["lines"][2]["time"] is None
    assert result["lines"][3]["reason"] == "relay"
    assert result["accounts"] == ["alice", "böb\x1b"]
    assert result["meters"][2]["hard"] is None
    assert result["past"]["last_login"] == "2026-09-21T16:13:20.000+02:00"
    assert result["decisions"][0]["time"] == "2026-09-21T16:13:20.000+02:00"
    assert result["decisions"][0]["origin"] == "log"
