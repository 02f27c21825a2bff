"""The manual pages hold what the references hold, in roff that means just that."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reference import manual
from throttled.cli.main import COMMANDS
from throttled.config import document
from throttled.config.schema import Config

PAGES = {8: manual.throttled_8(), 5: manual.throttled_toml_5()}
ALL = manual.pages()
ROOT = Path(__file__).resolve().parents[3]
MACROS = {
    "TH",
    "B",
    "SH",
    "SS",
    "SY",
    "YS",
    "RI",
    "I",
    "BR",
    "PP",
    "TP",
    "IP",
    "RS",
    "RE",
    "EX",
    "EE",
}


def plain(roff: str) -> str:
    """Read roff as a reader sees it, nearly."""
    text = re.sub(r"\\f[BRI]", "", roff).replace(r"\&", "").replace(r"\-", "-")
    for name, sign in (("aq", "'"), ("ga", "`"), ("ha", "^"), ("ti", "~")):
        text = text.replace(rf"\({name}", sign)
    return text.replace(r"\e", "\\")


def test_every_command_has_its_part() -> None:
    parts = re.findall(r"^\.SS throttled (\S+)$", PAGES[8], re.MULTILINE)
    assert parts == list(COMMANDS)
    assert r"\fB\-\-yes\fR" in PAGES[8]


def test_every_section_of_the_configuration_has_its_part() -> None:
    parts = [plain(part) for part in re.findall(r"^\.SS \[(.*?)[].]", PAGES[5], re.MULTILINE)]
    assert parts == list(document.SECTIONS)
    for name in Config.__struct_fields__:
        assert name in plain(PAGES[5])


def test_every_command_has_its_page() -> None:
    assert {f"man8/throttled-{name}.8" for name in COMMANDS} < ALL.keys()
    page = plain(ALL["man8/throttled-explain.8"])
    assert "throttled-explain - show everything known about a client" in page
    assert ".B throttled explain [OPTIONS] SUBJECT\n" in page
    assert "throttled explain 2001:db8::/64 --json\n" in page
    for part in ("DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert f".SH {part}\n" in page


def rendered(text: str, page: Path) -> subprocess.CompletedProcess[str]:
    """Render a page as the Debian archive's checker does."""
    page.write_text(text)
    return subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""},
    )


@pytest.mark.skipif(shutil.which("man") is None, reason="no man")
def test_man_renders_every_page_without_a_warning(tmp_path: Path) -> None:
    for path, text in ALL.items():
        shown = rendered(text, tmp_path / Path(path).name)
        assert (path, shown.stderr) == (path, "")
        assert shown.stdout
    assert "warning" in rendered(f"{text}.WRONG\n", tmp_path / "wrong.8").stderr


@pytest.mark.parametrize("number", ALL)
def test_only_known_macros_and_escapes(number: str) -> None:
    for line in ALL[number].splitlines():
        assert line
        assert not line.startswith("'")
        if line.startswith("."):
            assert line[1:].split()[0] in MACROS | {"br"}
    assert set(re.findall(r"\\([^f(])", ALL[number])) <= set("e&-~|")


@pytest.mark.parametrize("number", ALL)
def test_nothing_of_the_markdown_is_left(number: str) -> None:
    text = plain(ALL[number])
    for mark in ("**", "```", "| ---", "<!--", "&#124;", "](", "## "):
        assert mark not in text
    assert "`" not in text


def test_a_text_that_roff_would_read_as_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that begins with a dot, a quote or a backslash is text."""
    reference = (
        "# Title\n\n.example.com is a name\n\n'quoted' \\x1b ^~\n\n## [a.b]\n\n"
        "| key | default | meaning |\n| --- | --- | --- |\n| `a` | `x&#124;y` | .meant |\n\n"
        "- one **bold**\n  goes on\n- two [link](https://example.com)\n\n```\n.code -x\n```\n"
    )
    monkeypatch.setattr(document, "reference", lambda: reference)
    assert manual.throttled_toml_5().split("SH DESCRIPTION\n")[1] == (
        ".PP\n\\&.example.com is a name\n.PP\n\\&\\(aqquoted\\(aq \\ex1b \\(ha\\(ti\n"
        ".SH SECTIONS\n.SS [a.b]\n.TP\n\\fBa\\fR\n\\&.meant\n.br\nDefault: \\fBx|y\\fR.\n"
        ".IP \\(bu 2\none \\fBbold\\fR goes on\n.IP \\(bu 2\ntwo link\n"
        ".PP\n.RS 4\n.EX\n\\&.code \\-x\n.EE\n.RE\n.SH SEE ALSO\n.BR throttled (8)\n"
    )


def test_units_name_pages_that_there_are() -> None:
    units = [*ROOT.glob("packaging/systemd/*"), *ROOT.glob("packaging/examples/*")]
    named = {
        found for unit in units for found in re.findall(r"man:(\S+)\((\d)\)", unit.read_text())
    }
    assert ("throttled-import", "8") in named
    assert {f"man{section}/{name}.{section}" for name, section in named} <= ALL.keys()
