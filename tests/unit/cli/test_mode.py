"""`throttled mode`: the file and the daemon, or neither."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.control.requests import Reload, Request, Status
from throttled.control.results import Done
from throttled.control.server import Peer
from throttled.errors import BackendError
from unit.cli.test_status import RESULT

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


def test_shown_and_changed_without_a_daemon(cli: "Cli", config_file: Path) -> None:
    assert cli("mode").out == "enforce\n"
    before = config_file.read_text()
    ended = cli("mode", "observe")
    assert ended.code == 0
    assert ended.out.startswith("observe: the daemon is not running; it will start in this mode")
    assert config_file.read_text() == f'mode = "observe"\n{before}'
    assert cli("mode", "--json").json() == {"mode": "observe", "message": ""}
    assert cli("mode", "sometimes").code == 2


def test_the_daemon_reads_it_again(
    cli: "Cli", daemon: "Daemon", config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {Reload: Done("reloaded"), Status: replace(RESULT, mode="enforce")}

    async def handle(request: Request, _peer: Peer) -> object:
        return answers[type(request)]

    monkeypatch.setattr(daemon._server, "_handler", handle)
    ended = cli("mode", "enforce")
    assert ended.out == f"enforce: reloaded ({config_file})\n"
    before = config_file.read_text()
    ended = cli("mode", "throttle")
    assert ended.code == 1
    assert "the daemon uses mode enforce still" in ended.err
    assert config_file.read_text() == before


def test_what_the_daemon_refuses_is_undone(cli: "Cli", daemon: "Daemon", config_file: Path) -> None:
    before = config_file.read_text()
    daemon.answer = BackendError("no firewall", "install nftables")
    ended = cli("mode", "throttle")
    assert ended.code == 1
    assert "no firewall" in ended.err
    assert config_file.read_text() == before


def test_a_daemon_that_gives_no_answer_is_an_error_and_the_file_stays(
    cli: "Cli", daemon: "Daemon", config_file: Path
) -> None:
    daemon.answer = asyncio.CancelledError()  # the connection ends
    ended = cli("mode", "throttle")
    assert ended.code == 3
    assert f"{config_file} says throttle, but the daemon" in ended.err
    assert 'mode = "throttle"' in config_file.read_text()


def test_a_file_with_errors_is_reported_as_it_is_and_not_changed(
    cli: "Cli", config_file: Path
) -> None:
    for text, place in (("[limits.x]\nsotf = 1\n", ":2: "), ("[limits\n", ": not TOML")):
        config_file.write_text(text)
        ended = cli("mode", "observe")
        assert (ended.code, f"{config_file}{place}" in ended.err) == (2, True)
        assert config_file.read_text() == text


def test_a_file_that_is_not_there_is_not_made(cli: "Cli", config_file: Path) -> None:
    config_file.unlink()
    ended = cli("mode", "observe")
    assert (ended.code, "no such file" in ended.err) == (2, True)
    assert not config_file.exists()
