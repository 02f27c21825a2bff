"""docs/reference/commands.md is what the commands say of themselves."""

from pathlib import Path

from reference import commands
from throttled.cli.main import COMMANDS

PAGE = Path(__file__).parents[3] / "docs/reference/commands.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == commands.reference(), "make docs"


def test_every_command_is_there_with_options_and_examples() -> None:
    page = commands.reference()
    for name in COMMANDS:
        section = page.split(f"\n## throttled {name}\n")[1].split("\n## ")[0]
        assert f"`throttled {name} " in section
        assert "```\nthrottled " in section or "```\nzcat " in section
        assert ("| `--json` |" in section) == (name != "run")
