"""`throttled fleet`: what is done is said as text and as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.control.requests import FleetRemove, FleetTrust
from throttled.control.results import Done

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


def test_the_secret_is_made_once(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    config_file.write_text(f'{config_file.read_text()}[fleet]\nsecret = "{path}"\n')
    found = cli("fleet", "key", "--json").json()
    assert found == {"message": f"made {path}; copy it to each host of the fleet, mode 0600"}
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    ended = cli("fleet", "key")
    assert (ended.code, f"{path} exists" in ended.err) == (1, True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("action", "asked"), [("remove", FleetRemove("mx2")), ("trust", FleetTrust("mx2"))]
)
def test_what_is_done_about_a_host(
    cli: "Cli", daemon: "Daemon", action: str, asked: FleetRemove | FleetTrust
) -> None:
    daemon.answer = Done("done \x1b")
    assert cli("fleet", action, "mx2").out == "done \\x1b\n"
    assert cli("fleet", action, "mx2", "--json").json() == {"message": "done \x1b"}
    assert daemon.asked == [asked, asked]
    ended = cli("fleet", action)
    assert (ended.code, "which host?" in ended.err) == (2, True)
