"""`throttled run` hands its words to the daemon; what that does is tested as a system."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from unit.cli.conftest import Cli


def test_the_words_reach_the_daemon(
    cli: "Cli", config_file: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    said: list[object] = []

    def run(*words: object) -> int:  # in place of a loop that would not end
        said.extend(words)
        return 0

    monkeypatch.setattr("throttled.service.daemon.run", run)
    assert cli("run", "--backend", "dryrun", "--mode", "observe").code == 0
    assert said == [str(config_file), "dryrun", "observe", "info"]
    assert cli("run", "--log-level", "debug").code == 0
    assert said[-1] == "debug"
    assert cli("run", "--log-level", "loud").code == 2
    assert cli("run", "--mode", "loud").code == 2


def test_a_configuration_that_cannot_be_used(cli: "Cli", config_file: Path) -> None:
    config_file.write_text("nonsense = 1")
    ended = cli("run")
    assert ended.code == 2
    assert "nonsense" in ended.err
