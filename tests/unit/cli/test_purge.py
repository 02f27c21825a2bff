"""What purge does without a firewall; with one: test_offline."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from throttled.control.results import Done
from throttled.enforce import registry
from throttled.errors import BackendError
from throttled.linux.claim import beside
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


@pytest.mark.root
def test_a_running_daemon_is_not_purged(cli: "Cli", daemon: "Daemon", tmp_path: Path) -> None:
    Store.open(str(tmp_path / "throttled.db")).close()
    daemon.answer = Done("")
    ended = cli("purge", "--all", "--yes")
    assert ended.code == 1
    assert "systemctl stop throttled" in ended.err
    assert (tmp_path / "throttled.db").exists()


@pytest.mark.root
def test_what_stays_in_the_kernel_is_reported_and_the_rest_is_removed(
    cli: "Cli", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = BackendError("not permitted", "be root")
    monkeypatch.setattr(registry, "teardown", lambda: (["iptables"], [error]))
    for name in ("throttled.db", "throttled.db-wal", "throttled.observe.db"):
        (tmp_path / name).touch()
    asked = cli("purge", "--all")
    assert (asked.code, "--yes" in asked.err) == (2, True)  # nobody to ask
    ended = cli("purge", "--all", "--yes", "--json")
    assert ended.code == 1
    assert ended.err == "throttled: not permitted\nhint: be root\n"
    assert ended.json() == {
        "clean": ["iptables"],
        "removed": [
            f"{tmp_path}/throttled.db",
            f"{tmp_path}/throttled.db-wal",
            f"{tmp_path}/throttled.observe.db",
        ],
        "faults": [{"message": "not permitted", "hint": "be root"}],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["throttled.toml"]
    assert "iptables: nothing of throttled is left" in cli("purge", "--yes").out


@pytest.mark.root
def test_a_daemon_that_starts_while_one_is_asked_is_not_purged(
    cli: "Cli", daemon: "Daemon", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ("--socket", str(tmp_path / "elsewhere.sock"))
    touched: list[int] = []

    def teardown() -> tuple[list[str], list[BackendError]]:
        touched.append(1)
        return [], []

    monkeypatch.setattr(registry, "teardown", teardown)
    daemon.answer = Done("")
    ended = cli(*elsewhere, "purge", "--yes")  # the configuration's socket, not the one named
    assert (ended.code, touched) == (1, [])

    here = daemon.path
    there = here.rename(here.with_name("later"))
    claimed = beside(here).rename(here.with_name("claimed"))

    def says_yes(*_args: object, **_named: object) -> bool:
        there.rename(here)
        claimed.rename(beside(here))
        return True

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", says_yes)
    ended = cli("purge")
    assert (ended.code, touched) == (1, [])
    assert here.is_socket()


@pytest.mark.root
def test_a_file_that_cannot_be_removed_stops_no_other(
    cli: "Cli", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "teardown", lambda: (["nftables"], []))
    (tmp_path / "throttled.db").mkdir()
    (tmp_path / "throttled.observe.db").touch()
    ended = cli("purge", "--all", "--yes", "--json")
    assert ended.code == 1
    assert ended.json()["removed"] == [f"{tmp_path}/throttled.observe.db"]
    assert "cannot remove" in ended.err
