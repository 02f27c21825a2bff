"""`throttled accounts`, on a real store."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.control.requests import Accounts
from throttled.control.results import AccountRow, AccountsResult
from throttled.model import SenderDay
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


@pytest.fixture
def store(tmp_path: Path) -> None:
    today = int(time.time() // 86400)
    opened = Store.open(str(tmp_path / "throttled.db"))
    opened.senders.add(
        [
            SenderDay("account:alice@example.test", today - 1, 1, 10),
            SenderDay("account:alice@example.test", today, 2, 1500, 30_000, 3, 4),
            SenderDay("account:bob\x1b[2J", today, 9, 9, 9, 9, 9),
            SenderDay("uid:33", today, 1, 1, 1),
        ]
    )
    opened.close()


@pytest.mark.usefixtures("store")
def test_what_senders_did_today(cli: "Cli") -> None:
    ended = cli("accounts")
    assert ended.code == 0
    title, first, *_ = lines = ended.out.splitlines()
    assert title.split()[0] == "SENDER"
    assert first.split() == ["account:alice@example.test", *"2 1,500 3 4 0 30k - 10 10 -".split()]  # noqa: SIM905 - a row
    assert len(lines) == 4
    assert "\x1b" not in ended.out


@pytest.mark.usefixtures("store")
def test_names_are_whole_on_a_narrow_terminal(cli: "Cli", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = cli("accounts").out.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert [line.split()[0] for line in lines[1:3]] == [
        "account:alice@example.test",
        "account:bob\\x1b[2J",
    ]


@pytest.mark.usefixtures("store")
def test_sorting_and_finding(cli: "Cli") -> None:
    rows = cli("accounts", "--sort", "bounces", "--json").json()["rows"]
    assert [row["bounces"] for row in rows] == [9, 3, 0]
    assert [r["subject"] for r in cli("accounts", "--of", "uid", "--json").json()["rows"]] == [
        "uid:33"
    ]
    assert len(cli("accounts", "EXAMPLE", "--json").json()["rows"]) == 1
    assert cli("accounts", "--max", "1").out.endswith("and 2 more: --max\n")
    assert (cli("accounts", "carol").code, cli("accounts", "carol").out) == (
        1,
        "no sender is known by that name\n",
    )


def test_without_a_database(cli: "Cli") -> None:
    ended = cli("accounts")
    assert ended.code == 3
    assert "the daemon is not running" in ended.err


def test_an_empty_database(cli: "Cli", tmp_path: Path) -> None:
    Store.open(str(tmp_path / "throttled.db")).close()
    assert (cli("accounts").code, cli("accounts").out) == (0, "no sender is known\n")


def test_of_a_running_daemon(cli: "Cli", daemon: "Daemon") -> None:
    row = AccountRow("account:alice", 1, 2, 3, 4, 5, 6, 7, 8, 9, ["account-bounces"])
    daemon.answer = AccountsResult([row], 2)
    ended = cli("accounts", "ALICE", "--of", "account", "--sort", "networks", "--max", "1")
    assert daemon.asked == [Accounts("ALICE", "account", "networks", 1)]
    lines = ended.out.splitlines()
    assert lines[1].split() == [
        *"account:alice 1 2 4 5 6 3 7 8 9 account-bounces".split(),  # noqa: SIM905 - a row
    ]
    assert lines[2] == "and 1 more: --max"
    daemon.answer = AccountsResult([], 0, enabled=False)
    assert cli("accounts").out == "senders are not counted: [accounts] enabled = false\n"
