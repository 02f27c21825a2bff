"""The manual pages hold what the references hold, in roff that means just that."""

import re

import pytest

from reference import manual
from throttled.cli.main import COMMANDS
from throttled.config import document
from throttled.config.schema import Config

PAGES = {8: manual.throttled_8(), 5: manual.throttled_toml_5()}
MACROS = {"TH", "SH", "SS", "SY", "YS", "RI", "I", "BR", "PP", "TP", "IP", "RS", "RE", "EX", "EE"}


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


@pytest.mark.parametrize("number", PAGES)
def test_only_known_macros_and_escapes(number: int) -> None:
    for line in PAGES[number].splitlines():
        assert line
        assert not line.startswith("'")
        if line.startswith("."):
            assert line[1:].split()[0] in MACROS | {"br"}
    assert set(re.findall(r"\\([^f(])", PAGES[number])) <= set("e&-~|")


@pytest.mark.parametrize("number", PAGES)
def test_nothing_of_the_markdown_is_left(number: int) -> None:
    text = plain(PAGES[number])
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
