"""`throttled mode`: the file and the daemon, or neither."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.control.protocol import Done, Reload, Status, StatusResult
from throttled.errors import BackendError
from throttled.model import Mode
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
    answers = {Reload: Done("reloaded"), Status: None}

    async def handle(request: object, _peer: object) -> object:
        daemon.asked.append(request)  # type: ignore[arg-type]
        if isinstance(request, Status):
            return _status("enforce")
        return answers[type(request)]  # type: ignore[index]

    monkeypatch.setattr(daemon._server, "_handler", handle)
    ended = cli("mode", "enforce")
    assert ended.out == f"enforce: reloaded ({config_file})\n"
    before = config_file.read_text()
    ended = cli("mode", "throttle")
    assert ended.code == 1
    assert "the daemon was started with --mode enforce" in ended.err
    assert config_file.read_text() == before


def test_what_the_daemon_refuses_is_undone(cli: "Cli", daemon: "Daemon", config_file: Path) -> None:
    before = config_file.read_text()
    daemon.answer = BackendError("no firewall", "install nftables")
    ended = cli("mode", "throttle")
    assert ended.code == 1
    assert "no firewall" in ended.err
    assert config_file.read_text() == before


def _status(mode: Mode) -> StatusResult:
    return replace(RESULT, mode=mode)
