"""`throttled suggest` on logs written here."""

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.config.load import load, loads
from throttled.errors import SourceError
from throttled.model import Peak, SenderDay
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

PROGRAM = str(Path(sys.executable).with_name("throttled"))


def day(number: int, bursts: int) -> str:
    """Thirty-five clients that deliver, some in bursts; one that sends HTTP; what anvil says."""
    lines = []
    for n in range(35):
        head = f"2026-07-{number}T10:00:{n:02}+02:00 mx postfix/smtpd[{n}]: "
        client = f"m.example[2001:db8:1111:2222:3333:4444:5555:{n:x}]"
        lines += [
            f"{head}connect from {client}",
            f"{head}disconnect from {client} ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5",
        ] * (80 if n < bursts else 1)
    head = f"2026-07-{number}T11:00:00+02:00 mx postfix"
    lines += [f"{head}/smtpd[9]: warning: non-SMTP command from unknown[203.0.113.7]: GET /"] * 9
    lines.append(
        f"{head}/anvil[1]: statistics: max connection rate 80/60s "
        "for (smtp:2001:db8:1111:2222:3333:4444:5555:1) at Jul 22 10:00:00"
    )
    return "\n".join(lines) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two days, the first one rotated away."""
    (tmp_path / "mail.log.1").write_text(day(20, 22))
    path = tmp_path / "mail.log"
    path.write_text(day(22, 2))
    return path


def test_blocks_and_snippet(cli: "Cli", log: Path) -> None:
    ended = cli("suggest", str(log), f"{log}.1")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("read ")) <= 80
    assert lines[2].endswith(" lines")
    assert lines[3] == "from 2026-07-20 10:00:00 to 2026-07-22 11:00:00"
    assert any(
        line.split() == ["80", "2001:db8:1111:2222:3333:4444:5555:1", "smtp"] for line in lines
    )
    start = lines.index("connections, port 25: connections within 1m")
    block = lines[start : lines.index("", start)]
    assert block[2].split()[:3] == ["0", "0", "1"]  # HTTP, and no connection in the log
    assert block[3].split() == ["1", "13", "█" * 16, "0"]
    assert block[-25].split() == ["soft", "good", "strangers", "hard", "good", "strangers"]
    assert block[-24].split() == ["now", "60", "22", "0", "-"]
    assert block[-23].split() == ["proposed", "100", "0", "0", "-"]
    assert block[-22:-19] == [
        "  good senders above soft (now):",
        "    2001:db8:1111:2222:3333:4444:5555:0          80    160 mails     0 logins",
        "    2001:db8:1111:2222:3333:4444:5555:1          80    160 mails     0 logins",
    ]
    assert block[-1] == "    and 2 more"
    assert "  no client was counted" in lines
    assert "  nothing is proposed: no good client did it" in lines


def test_the_snippet_is_configuration(cli: "Cli", log: Path) -> None:
    out = cli("suggest", str(log), f"{log}.1").out
    snippet = out[out.index("# For throttled.toml") :]
    limits = loads(snippet, "snippet").limits
    assert (limits["connections"].mx, limits["connections"].soft) != (None, None)
    assert limits["connections"].mx is not None
    assert limits["connections"].mx.soft == 100
    found = cli("suggest", "--json", str(log), f"{log}.1").json()
    assert found["toml"] + "\n" == snippet
    assert found["files"] == [f"{log}.1", str(log)]
    assert found["first"] == "2026-07-20T10:00:00.000+02:00"
    assert found["suggestions"][0]["proposed"]["soft"] == 100


def test_too_little(cli: "Cli", log: Path) -> None:
    out = cli("suggest", str(log)).out
    assert "  nothing is proposed: only 1.0 hours seen; at least 24 are needed" in out
    assert out.endswith("\n# Nothing to change.\n")
    log.write_text("root:x:0:0\n")
    out = cli("suggest", str(log)).out
    assert "no events found: is it Postfix's log?" in out
    assert "Nothing to change" not in out


def test_this_hosts_logs_with_what_rotation_left(cli: "Cli", log: Path, config_file: Path) -> None:
    config_file.write_text(config_file.read_text() + f'[log]\nfiles = ["{log}"]\n')
    lines = cli("suggest").out.splitlines()
    assert lines[0] == f"read {log}.1"  # whole where there is no terminal
    assert cli("suggest", "--json").json()["files"] == [f"{log}.1", str(log)]


def test_a_host_without_log_files_has_a_journal(
    cli: "Cli", config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_journal(*_: object, **__: object) -> None:  # whether this host has one or not
        raise SourceError("cannot read the journal")

    monkeypatch.setattr("throttled.sources.history.JournalTail", no_journal)
    config_file.write_text(config_file.read_text() + "[log]\nfiles = []\n")
    ended = cli("suggest")
    assert ended.code == 1
    assert "throttled: cannot read the journal" in ended.err
    assert cli("suggest", "/absent").code == 1


def test_more_clients_than_are_counted(cli: "Cli", log: Path, config_file: Path) -> None:
    config_file.write_text("max_clients = 1000\n" + config_file.read_text())
    with log.open("a") as file:
        for n in range(1001):
            file.write(
                f"2026-07-22T12:00:00+02:00 mx postfix/smtpd[1]: "
                f"connect from unknown[198.18.{n // 250}.{n % 250}]\n"
            )
    assert "More clients than max_clients" in cli("suggest", str(log)).out


def test_a_locale_that_knows_few_characters(log: Path, config_file: Path) -> None:
    out = subprocess.run(
        [PROGRAM, "--config", str(config_file), "suggest", "-"],
        input=log.read_bytes(),
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    ).stdout
    assert b"####" in out
    assert out.isascii()
    assert b"\\u" not in out


def test_what_the_daemon_kept(cli: "Cli", config_file: Path) -> None:
    ended = cli("suggest", "--store")
    assert (ended.code, "no daemon" in ended.err or "database" in ended.err) == (1, True)
    path = load(str(config_file)).database()
    store = Store.open(path)
    store.peaks.write([Peak("203.0.113.7", "mx", "errors", "errors", 600.0, 9)], [], time.time())
    store.close()
    lines = cli("suggest", "--store").out.splitlines()
    assert lines[:2] == [
        f"read {path}",
        "peaks stored by the daemon; throttles and bans limit what a client can reach",
    ]
    assert any(line.split()[:1] == ["9-16"] for line in lines)
    found = cli("suggest", "--store", "--json").json()
    assert (found["files"], found["lines"], found["toml"]) == ([path], None, "")
    assert cli("suggest", "--store", "mail.log").code == 2


def test_senders(cli: "Cli", config_file: Path) -> None:
    own = '[limits.own]\nof = "account"\ncount = "messages"\nwithin = "1d"\nsoft = 10\n'
    config_file.write_text(config_file.read_text() + own)
    today = int(time.time() // 86400)
    accounts = {f"account:user{n}": 4 for n in range(12)}
    accounts |= {f"account:bad{n:02}": 100 - n for n in range(21)}
    with closing(Store.open(load(str(config_file)).database())) as store:
        days = [
            SenderDay(who, day, sent, sent)
            for day in range(today - 3, today + 1)
            for who, sent in accounts.items()
        ]
        store.senders.add(days)
    out = cli("suggest", "--store").out
    lines = out.splitlines()
    start = lines.index("own: messages within 1d, of each account")
    assert lines[start + 1 : start + 8] == [
        "  12 not above it: usual 4, highest 4; 21 above it",
        "                    soft          hard",
        "       now            10             -",
        "  proposed             5             -",
        "  the highest of 12 senders that were not above the limit is 4",
        "  above it:",
        "              100 account:bad00",
    ]
    assert lines[start + 27] == "    and 1 more"
    assert "  nothing is proposed: the database has no networks of senders" in lines
    assert out.endswith("\n[limits.own]\nsoft = 5\n")
    found = cli("suggest", "--store", "--json").json()
    assert found["toml"].endswith("\n[limits.own]\nsoft = 5")
    own_limit = next(s for s in found["senders"] if s["limit"] == "own")
    assert own_limit["proposed"] == {"soft": 5, "hard": 0}
    assert (own_limit["usual"], own_limit["highest"], own_limit["above"]) == (4, 4, 21)


def test_no_sender_was_counted(cli: "Cli", log: Path) -> None:
    lines = cli("suggest", str(log)).out.splitlines()
    at = lines.index("account-bounces: bounces within 1h, of each account")
    assert lines[at + 1] == "  no sender was counted"
