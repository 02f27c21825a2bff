"""`throttled report`: text, JSON, and a page that is opened in Chromium."""

import json
import re
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.programs import browser
from throttled.model import Decision, Evidence, Report, SenderDay
from throttled.store.hourly import HOUR
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;]]>--></style>\u202e\x1b[31m"
ELEMENTS = frozenset(
    "html head meta title style body main header h1 h2 p div b span section table thead "  # noqa: SIM905
    "tbody tr th td svg g rect line text i code footer".split()
)
chromium = pytest.mark.skipif(browser.PROGRAM is None, reason="chromium is not installed")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two weeks of traffic, and clients' words wherever they can be."""
    path = tmp_path / "throttled.db"
    base = time.time() // HOUR * HOUR
    with closing(Store.open(str(path))) as opened:
        for back in range(24 * 15, -1, -1):
            at = base - back * HOUR + 9
            hour = int(at // HOUR)
            activity = {(hour, "mx", "session"): 100 + back % 24, (hour, "submission", "login"): 3}
            subject = f"203.0.113.{back % 200}"
            decisions = [
                Decision(at, "ban", subject, "mx", "errors", 1, at + 600, EVIL, name=f"h{EVIL}"),
                Decision(at, "throttle", "2001:db8::7", "mx", f"{EVIL}{back % 3}", 0, at + 600, ""),
            ]
            opened.record(at, decisions, (), (), activity)  # type: ignore[arg-type]
            opened.hourly.count_drops(5_000 - 7 * back, at)
        good = [Evidence("203.0.113.5", base - 86400, 40, 2)]
        opened.record(base, (), good)
        name = f"account:{EVIL.casefold()}"
        opened.senders.report(
            [Report(base - 5, name, EVIL, "bounces", 11, 10, HOUR, f"account:{EVIL}")]
        )
        opened.senders.add([SenderDay(name, int((base - 5) // 86400), 7, 9, 1, 1)])
        sender = Decision(base - 5, "throttle", name, "submission", EVIL, 0, base, "")
        opened.record(base, [sender])
    return path


@pytest.mark.usefixtures("store")
def test_text(cli: "Cli") -> None:
    ended = cli("report")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert re.fullmatch(r"throttled on \S+, \w{3} \S+ \d\d:00 to \w{3} \S+ \d\d:00", lines[0])
    assert lines[2].endswith("1 of them had delivered mail or logged in; 1 of these banned.")
    assert any(re.fullmatch(r" +168 bans +█+  unchanged", line) for line in lines)
    assert "Changes: compared with the same hours a week before." in lines
    for title in ("By limit", "Worst networks", "Worst clients", "Busiest senders, in whole days"):
        assert any(line.startswith(title) for line in lines), title
    named = [line for line in lines if " errors h<script>" in line]  # clients' names
    assert " mails " in named[-1]  # a good sender
    assert len(named) > 1
    assert "\x1b" not in ended.out
    assert "\u202e" not in ended.out
    assert cli("report", "--day").out.splitlines()[0] != lines[0]


@pytest.mark.usefixtures("store")
def test_sentences_are_whole_on_a_narrow_terminal_and_tables_fit(
    cli: "Cli", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = cli("report").out.splitlines()
    assert lines[2].endswith("1 of them had delivered mail or logged in; 1 of these banned.")
    assert all(len(line) <= 40 for line in lines if line.startswith(" "))


@pytest.mark.usefixtures("store")
def test_json_has_the_numbers_of_the_text(cli: "Cli") -> None:
    found = cli("report", "--json").json()
    assert found["totals"]["bans"] == {"now": 168, "before": 168}
    assert found["totals"]["drops"] == {"now": 7 * 168, "before": 7 * 168}
    assert sum(found["series"]["sessions"]) == found["totals"]["sessions"]["now"]
    assert found["good"][0]["subject"] == "203.0.113.5"
    assert found["since"].endswith(":00:00.000+01:00") or found["since"].endswith("+02:00")


def test_nothing_happened_and_no_database(cli: "Cli", tmp_path: Path) -> None:
    ended = cli("report")
    assert ended.code == 1
    assert "throttled.db" in ended.err
    Store.open(str(tmp_path / "throttled.db")).close()
    assert "Nobody was banned or throttled." in cli("report").out
    page = cli("report", "--html", "-").out
    assert "No good sender was throttled or banned" in page


@pytest.mark.usefixtures("store")
def test_the_page_is_written_in_one_step_and_stays_readable(cli: "Cli", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert cli("report", "--html", str(path)).out == ""
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    link = tmp_path / "link.html"
    link.symlink_to(path)
    cli("report", "--day", "--html", str(link))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob(".report*"))
    assert cli("report", "--html", str(tmp_path / "no" / "x.html")).code == 1


class _Elements(HTMLParser):
    """Collects elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.usefixtures("store")
def test_what_clients_write_is_never_markup(cli: "Cli") -> None:
    page = cli("report", "--html", "-").out
    parsed = _Elements()
    parsed.feed(page)
    assert parsed.names <= ELEMENTS
    assert not {name for name in parsed.attributes if name.startswith("on") or name == "style"}
    assert not parsed.attributes & {"src", "href", "action"}
    assert page.isprintable() or not re.search(r"[^\n\x20-\x7e\u00a0-\uffff]", page)
    assert "\u202e" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]


@pytest.mark.usefixtures("store")
@chromium
@pytest.mark.parametrize("width", [320, 380, 768, 1200])
def test_the_page_fits_each_width(cli: "Cli", tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    cli("report", "--html", str(path))
    found = browser.measure(path, width)
    assert found["width"] == width
    assert found["narrow"] == 0
    assert "203.0.113.0/24" in found["text"]
    assert "<script>alert(1)</script>" in found["text"]  # as text
    assert ("h<script>" in found["text"]) == (width > 560)  # a client's name; phones have no room
    assert "script" not in found["elements"]
    assert "img" not in found["elements"]
    assert found["handlers"] == found["loaded"] == []
    # Its own style sheet is applied: the policy allows it.
    assert found["background"] == "rgb(244, 245, 247)"


@pytest.mark.usefixtures("store")
@chromium
def test_dark_mode_and_print(cli: "Cli", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    cli("report", "--html", str(path))
    assert browser.measure(path, 1200, dark=True)["background"] == "rgb(17, 21, 27)"
    browser.pdf(path, tmp_path / "report.pdf")
    pages = (tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n")
    assert 1 <= pages <= 6


def test_replay_writes_the_same_page(cli: "Cli", tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(
        "".join(
            f"2026-07-{day}T10:00:{n:02}+02:00 mx postfix/smtpd[{n}]: "
            f"{text} unknown[203.0.113.7]{end}\n"
            for day in range(10, 13)
            for n in range(20)
            for text, end in (
                ("connect from", ""),
                ("warning: non-SMTP command from", ": GET / HTTP/1.0"),
                ("disconnect from", " unknown=0/1 commands=0/1"),
            )
        )
    )
    ended = cli("replay", "--summary-only", "--html", str(tmp_path / "r.html"), str(log))
    assert ended.code == 0
    assert "Banned most often:" in ended.out
    page = (tmp_path / "r.html").read_text()
    assert "1 client would have been banned, 1 throttled." in page
    assert "60 port 25" in page
    assert cli("replay", "--html", "-", str(log)).out == page
    bans = sum(
        json.loads(line).get("action") == "ban"
        for line in cli("replay", "--json", str(log)).out.splitlines()
    )
    assert f">{bans} bans<" in page
