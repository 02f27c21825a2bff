"""Words that shells are offered."""

import socket
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from throttled.cli import completion
from throttled.cli.main import throttled
from throttled.control.requests import List
from throttled.control.results import FindResult, FleetPeer, FleetResult, Found, ListResult
from throttled.errors import NotPermittedError
from throttled.model import Snapshot
from unit.cli.conftest import Daemon


@pytest.fixture
def ctx(daemon: Daemon) -> click.Context:
    """A context in which the socket is known, as while a shell completes."""
    made = click.Context(throttled, info_name="throttled")
    made.params = {"config": None, "socket": str(daemon.path)}
    return made


def words(ctx: click.Context, completer: completion.Completer, begun: str) -> list[str]:
    return completer(ctx, click.Argument(["x"]), begun)


def test_a_name_that_a_shell_would_run_is_not_offered(daemon: Daemon, ctx: click.Context) -> None:
    names = [
        "a;reboot",
        "$(reboot)",
        "a b",
        "a*",
        "a`x`",
        "a\nb",
        "a'b",
        "~a",
        "alice@example.test",
    ]
    daemon.answer = FindResult([Found(f"account:{name}", "account") for name in names])
    found = words(ctx, completion.subjects, "account:al")
    assert found == ["account:alice@example.test"]


def test_of_a_single_letter_only_entries_are_looked_at(daemon: Daemon, ctx: click.Context) -> None:
    daemon.answer = ListResult([], 0)
    assert words(ctx, completion.subjects, "account:a") == []
    assert [type(request) for request in daemon.asked] == [List]


def test_what_is_active_comes_first(daemon: Daemon, ctx: click.Context) -> None:
    rows = [Found("198.51.100.1", "client"), Found("198.51.100.2", "client", active="ban")]
    daemon.answer = FindResult(rows)
    assert words(ctx, completion.subjects, "198.5") == ["198.51.100.2", "198.51.100.1"]


def test_hosts_of_the_fleet(daemon: Daemon, ctx: click.Context) -> None:
    peer = FleetPeer("mx2", "1", 0.0, 0, False, {})
    daemon.answer = FleetResult("s", "mx1", True, "", {}, [peer])
    assert words(ctx, completion.peers, "") == ["mx2"]
    assert words(ctx, completion.peers, "mx3") == []


def test_lists(daemon: Daemon, ctx: click.Context) -> None:
    entry = Snapshot("198.51.100.7", "mx", "ban", "operator", 0, 0.0, 9e9, "", 0)
    origins = ("log", "list:drop", "peer:drip", "list:drop", "list:bad")
    daemon.answer = ListResult([replace(entry, origin=origin) for origin in origins], 5)
    assert words(ctx, completion.lists, "") == ["drop", "bad"]
    assert words(ctx, completion.lists, "dr") == ["drop"]


def test_no_answer_and_another_answer_are_nothing(
    daemon: Daemon, ctx: click.Context, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer = NotPermittedError("accounts are shown to root alone")
    assert words(ctx, completion.subjects, "198.5") == []
    daemon.answer = ListResult([], 0)
    assert words(ctx, completion.peers, "") == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("completer", [completion.subjects, completion.allowable])
def test_a_daemon_that_does_not_answer_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completer: completion.Completer
) -> None:
    monkeypatch.setattr(completion, "_PATIENCE", 0.05)
    made = click.Context(throttled, info_name="throttled")
    made.params = {"config": None, "socket": str(tmp_path / "s")}
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        silent.setblocking(False)
        assert words(made, completer, "198.51.100.") == []
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
