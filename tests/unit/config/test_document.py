"""The default file and the reference say what the schema says, no less and no more."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from throttled.config import describe, document
from throttled.config.schema import Config, FirewallPorts
from throttled.duration import duration
from throttled.limits import Limit, Override, Thresholds, default_limits

ROOT = Path(__file__).resolve().parents[3]


def settings(text: str) -> dict[str, Any]:
    """Read the default file with every comment sign in front of a setting taken away."""
    lines = [line.removeprefix("#") if line[1:2] != " " else line for line in text.splitlines()]
    return tomllib.loads("\n".join(lines))


def leaves(table: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{at}{key}.")
        else:
            yield at + key


PLAIN = dict(describe.settings(Limit("errors", duration("1m"))))


def keys(section: Struct, at: str = "") -> Iterator[str]:
    for name, value in describe.settings(section):
        if isinstance(value, dict) and name == "limits":
            for limit, values in value.items():
                yield from keys(values, f"limits.{limit}.")
        elif isinstance(value, Struct):
            yield from keys(value, f"{at}{name}.")
        elif isinstance(section, Limit) and name not in ("count", "within"):
            if value != PLAIN[name]:
                yield at + name
        elif value is not None:
            yield at + name


def test_the_file_has_every_key_of_the_schema_and_no_other() -> None:
    assert sorted(leaves(settings(document.default_file()))) == sorted(keys(Config()))


def test_every_section_and_every_limit_is_introduced() -> None:
    sections = [name for name in Config.__struct_fields__ if name not in ("mode", "max_clients")]
    assert list(document.SECTIONS) == sections
    assert list(document.LIMITS) == list(default_limits())


def test_the_file_is_all_comments_and_headers() -> None:
    for line in document.default_file().splitlines():
        assert not line or line.startswith(("#", "["))
        assert len(line) <= 100
        assert line == line.rstrip()


@pytest.mark.parametrize("kind", [Config, Limit, Override, Thresholds, FirewallPorts])
def test_the_reference_names_every_key(kind: type[Struct]) -> None:
    text = document.reference()
    for name in kind.__struct_encode_fields__:
        assert f"`{name}`" in text or f"## [{name}" in text, name
    for name in keys(Config()):
        assert name.rpartition(".")[2] in text, name


def test_the_tables_of_the_reference_are_whole() -> None:
    rows = [line for line in document.reference().splitlines() if line.startswith("|")]
    assert len(rows) > 60
    assert {row.count("|") for row in rows} == {4, 5}
    assert "a duration such as" not in "".join(rows)


def test_the_files_in_the_tree_are_what_is_written() -> None:
    hint = "make docs"
    assert (ROOT / "packaging/throttled.toml").read_text() == document.default_file(), hint
    assert (ROOT / "docs/reference/config.md").read_text() == document.reference(), hint


def test_check_distinguishes_a_stale_file_from_a_fresh_one(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts/reference", tmp_path / "scripts/reference")
    script = tmp_path / "scripts/gen-docs"
    script.write_bytes((ROOT / "scripts/gen-docs").read_bytes())

    def run(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, script, *args], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr + done.stdout

    assert run("--check")[0] == 1
    code, output = run()
    assert code == 0
    assert output.startswith("wrote packaging/throttled.toml\nwrote docs/reference/config.md\n")
    assert run("--check") == (0, "")
    with (tmp_path / "packaging/throttled.toml").open("a") as file:
        file.write("x")
    code, output = run("--check")
    assert code == 1
    assert output == "packaging/throttled.toml is not what scripts/gen-docs writes: make docs\n"
