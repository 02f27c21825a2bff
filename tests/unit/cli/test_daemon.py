"""Where a command looks for the daemon: --socket, the configuration, the default."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from throttled.cli.daemon import socket_path
from throttled.control.results import Done

if TYPE_CHECKING:
    import pytest

    from unit.cli.conftest import Cli, Daemon


def test_a_socket_on_the_command_line_needs_no_configuration(
    cli: "Cli", daemon: "Daemon", config_file: Path
) -> None:
    config_file.write_text("nonsense")
    daemon.answer = Done("here")
    assert cli("--socket", str(daemon.path), "reload").out == "here\n"


def test_a_broken_configuration_that_was_named_is_an_error(cli: "Cli", config_file: Path) -> None:
    config_file.write_text("nonsense = 1")
    ended = cli("reload")
    assert ended.code == 2
    assert "nonsense" in ended.err


def test_a_broken_default_configuration_stops_no_command(
    cli: "Cli", config_file: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """The daemon runs on; its file is half edited, or closed to the control group."""
    config_file.write_text("nonsense = 1")
    monkeypatch.setattr("throttled.config.load.DEFAULT_PATH", str(config_file))
    ended = cli("status", named=False)
    assert "nonsense" in ended.err
    assert "trying /run/throttled/control.sock" in ended.err
    assert ended.code != 2


def test_a_broken_configuration_is_reported_once(
    config_file: Path, monkeypatch: "pytest.MonkeyPatch", capsys: "pytest.CaptureFixture[str]"
) -> None:
    """`check` asks the daemon twice."""
    config_file.write_text("nonsense = 1")
    monkeypatch.setattr("throttled.config.load.DEFAULT_PATH", str(config_file))
    with click.Context(click.Command("throttled"), obj=(None, None)):
        assert socket_path() == socket_path() == "/run/throttled/control.sock"
    assert capsys.readouterr().err.count("trying") == 1
