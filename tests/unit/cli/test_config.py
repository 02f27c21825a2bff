"""`throttled config` prints a file that means what is active."""

from pathlib import Path
from typing import TYPE_CHECKING

from throttled.config.document import default_file
from throttled.config.load import load, loads
from throttled.config.schema import Config

if TYPE_CHECKING:
    from unit.cli.conftest import Cli


def test_the_output_is_a_configuration_of_the_same_meaning(cli: "Cli", config_file: Path) -> None:
    more = '[limits.mine]\ncount = "errors"\nwithin = "90s"\nsoft = 3\nmx = { hard = 9 }\n'
    config_file.write_text(config_file.read_text() + more)
    ended = cli("config")
    assert ended.code == 0
    assert loads(ended.out, "output") == load(str(config_file))


def test_the_default_file(cli: "Cli", config_file: Path) -> None:
    config_file.write_text("nonsense = 1")  # is not looked at
    assert cli("config", "--default").out == default_file()
    assert cli("config").code == 2


def test_json(cli: "Cli") -> None:
    settings = cli("config", "--json").json()
    assert settings["limits"]["auth"]["within"] == "10m"
    assert settings["firewall"]["backend"] == "nftables"
    assert cli("config", "--default", "--json").json()["mode"] == Config().mode


def test_each_value_of_a_file_names_its_place(cli: "Cli", config_file: Path) -> None:
    beside = config_file.with_suffix(".d")
    beside.mkdir()
    (beside / "local.toml").write_text('[firewall]\nbackend = "xdp"\n[limits.errors]\nhard = 70\n')
    lines = cli("config").out.splitlines()
    assert f'backend = "xdp"  # {beside}/local.toml:2, instead of {config_file}:6' in lines
    assert f"hard = 70  # {beside}/local.toml:4" in lines
    assert "soft = 20" in lines
    assert loads("\n".join(lines), "output") == load(str(config_file))
