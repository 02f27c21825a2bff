"""Writes the manual pages: throttled(8), throttled-COMMAND(8), throttled.toml(5). Pure.

Their text is that of the references in docs/reference, which come from the commands and the schema;
here is what turns their Markdown into roff. Knows only the Markdown that these have: headings,
paragraphs, lists, tables (the first cell is the term, the last one says what it means), fenced
lines, `code`, **bold** and links. Owns no state.
"""

import re
from collections.abc import Iterator
from itertools import groupby

from reference import commands
from throttled import __version__
from throttled.cli.main import COMMANDS
from throttled.config import document as config

_INLINE = re.compile(r"`(?P<code>[^`]*)`|\*\*(?P<bold>[^*]*)\*\*|\[(?P<link>[^]]*)\]\([^)]*\)")
_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
#: What roff reads as something else than itself (groff_man_style(7)).
_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)

_FILES = """\
.SH FILES
.TP
.I /etc/throttled/throttled.toml
The configuration, throttled.toml(5).
.TP
.I /var/lib/throttled/throttled.db
Throttles, bans, and what is remembered of clients: an SQLite database.
.TP
.I /run/throttled/control.sock
The control socket.
"""


def pages() -> dict[str, str]:
    """Return all pages by their path below a directory of manual pages."""
    found = {"man8/throttled.8": throttled_8(), "man5/throttled.toml.5": throttled_toml_5()}
    return found | {f"man8/throttled-{name}.8": command_8(name) for name in COMMANDS}


def command_8(name: str) -> str:
    """Return the manual page of one command."""
    part = commands.about(name)
    what = re.split(r"[.;:](?: |$)", part.text[0])[0].replace("`", "")
    lines = [
        *(".SH SYNOPSIS", f".B {_escape(part.usage)}"),
        *(".SH DESCRIPTION", *_blocks("\n".join(part.text))),
        *(".SH OPTIONS", *_blocks("\n".join(part.options))),
        *(".SH EXAMPLES", *_blocks("\n".join(["```", *part.examples, "```\n"]))),
        *(".SH EXIT STATUS", *_blocks(commands.EXIT)),
        *(".SH SEE ALSO", ".BR throttled (8),", ".BR throttled.toml (5)"),
    ]
    head = _title(f"throttled-{name}", 8, what[:1].lower() + what[1:])
    return head + "\n".join(lines) + "\n"


def throttled_8() -> str:
    """Return the manual page of the command."""
    return (
        _title("throttled", 8, "throttle and ban abusive SMTP clients in the kernel")
        + ".SH SYNOPSIS\n.SY throttled\n.RI [ OPTION ]\\~.\\|.\\|.\n.I COMMAND\n"
        + ".RI [ ARGUMENT ]\\~.\\|.\\|.\n.YS\n"
        + _body(commands.reference(), "COMMANDS")
        + _FILES
        + ".SH SEE ALSO\n.BR throttled.toml (5),\n"
        + "".join(f".BR throttled\\-{name} (8),\n" for name in COMMANDS)
        + ".BR postfix (1),\n.BR nft (8),\n.BR systemctl (1)\n"
    )


def throttled_toml_5() -> str:
    """Return the manual page of the configuration file."""
    return (
        _title("throttled.toml", 5, "configuration of throttled")
        + _body(config.reference(), "SECTIONS")
        + ".SH SEE ALSO\n.BR throttled (8)\n"
    )


def _title(name: str, section: int, what: str) -> str:
    title = f'.TH "{name.upper()}" {section} "" "throttled {__version__}"\n'
    return f"{title}.SH NAME\n{_escape(name)} \\- {_escape(what)}\n"


def _body(markdown: str, parts: str) -> str:
    """Turn a reference into roff: its introduction, then its parts under a heading."""
    _, _, text = _COMMENT.sub("", markdown).partition("\n")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    lines = [".SH DESCRIPTION", *_blocks(head), f".SH {parts}"]
    for section in sections:
        name, _, rest = section.partition("\n")
        lines += [f".SS {_inline(name)}", *_blocks(rest)]
    return "\n".join(lines) + "\n"


def _blocks(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"^```\n", text, flags=re.MULTILINE)):
        if number % 2:
            yield from (".PP", ".RS 4", ".EX", *map(_verbatim, part.splitlines()), ".EE", ".RE")
            continue
        for block in re.split(r"\n\s*\n", part.strip()):
            if block:
                yield from _block(block)


def _block(block: str) -> Iterator[str]:
    lines = block.splitlines()
    if lines[0].startswith("|"):
        yield from _table([_cells(line) for line in lines])
        return
    # A list's item goes on until the next one.
    starts = [line.startswith("- ") for line in lines]
    numbers = [sum(starts[: n + 1]) for n in range(len(lines))]
    for _, group in groupby(zip(numbers, lines, strict=True), key=lambda pair: pair[0]):
        words = " ".join(line.strip() for _, line in group)
        yield r".IP \(bu 2" if words.startswith("- ") else ".PP"
        yield _verbatim(_inline(words.removeprefix("- ")), escaped=True)


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("&#124;", "|") for cell in row.strip("|").split("|")]


def _table(rows: list[list[str]]) -> Iterator[str]:
    names = rows[0][1:-1]
    for term, *between, meaning in rows[2:]:
        yield from (".TP", _inline(term), _verbatim(_inline(meaning), escaped=True))
        if between:
            columns = (
                f"{name.capitalize()}: {cell}." for name, cell in zip(names, between, strict=True)
            )
            yield from (".br", _inline(" ".join(columns)))


def _inline(text: str) -> str:
    """Escape a text and set what is code in bold."""
    written, last = "", 0
    for match in _INLINE.finditer(text):
        written += _escape(text[last : match.start()])
        inner = next(group for group in match.groups() if group is not None)
        written += _escape(inner) if match["link"] is not None else rf"\fB{_escape(inner)}\fR"
        last = match.end()
    return written + _escape(text[last:])


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _verbatim(line: str, *, escaped: bool = False) -> str:
    """Return a line that roff takes for text, whatever it begins with."""
    line = line if escaped else _escape(line)
    return rf"\&{line}" if line.startswith((".", r"\(aq")) else line
