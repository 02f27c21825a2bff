"""What the commands print: escaped text, times, JSON, tables. Owns no state.

Whatever a client wrote reaches the terminal only through `printable`; JSON goes through `to_json`,
whose values are unchanged, but in which nothing but printable characters stands. Tables are cut
where the terminal ends; in a pipe or a file they are whole.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import click
import msgspec

from throttled.address import is_named
from throttled.duration import Duration
from throttled.model import Finding, Rate, Scope
from throttled.printable import harmless
from throttled.printable import printable as printable  # noqa: PLC0414 - for the commands

#: Fields of the protocol that hold wall-clock seconds; 0 means never.
_TIMES = frozenset(
    "begin time since until first last started last_line last_offence last_login exempt_until missing".split()  # noqa: E501, SIM905 - a dozen quotes is no clearer
)
_NOT_ASCII = re.compile(r"[^\n\x20-\x7e]")

#: What is said of a log in which nothing is understood.
NO_EVENT = "no events found: is it Postfix's log? see: throttled parse --unknown FILE"

#: Scopes as narrow columns show them.
SCOPES: dict[Scope, str] = {"mx": "mx", "submission": "subm"}


def from_log(text: str) -> str:
    """Return log text (one character per byte) as the UTF-8 it mostly is; not yet printable."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def scope(subject: str, scope: Scope) -> str:
    """Return the narrow name of a scope; "-" for accounts and other names, which have none."""
    return "-" if is_named(subject) else SCOPES[scope]


def within(subject: str, scope: Scope) -> str:
    """Return where something is active, as part of a sentence; "" for what has no scope."""
    return "" if is_named(subject) else f" in {scope}"


def log_text(line: str) -> str:
    """Return a piece of log, one character per byte, as it can be shown."""
    return printable(from_log(line))


def moment(seconds: float) -> str:
    """Return a wall-clock time as local ISO 8601 without zone, for people; `never` for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "never"


def iso(seconds: float) -> str:
    """Return a wall-clock time as ISO 8601 with zone, for programs."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def lasting(seconds: float) -> str:
    """Return a duration with its two largest units: `3d4h`, `9m50s`."""
    text = str(Duration(max(0.0, seconds)))
    return "".join(re.findall(r"\d+[dhms]", text)[:2])


def short_moment(seconds: float) -> str:
    """Return the time of a wall-clock time of today, or the day of another, in five characters."""
    then = time.localtime(seconds)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%m-%d", then)


def span(since: float, until: float) -> str:
    """Return a time span: `from 14:20 to 14:30` or `at 14:20`; with dates where not today."""
    today = time.strftime("%Y-%m-%d")
    days = [time.strftime("%Y-%m-%d", time.localtime(t)) for t in (since, until)]
    form = "%H:%M" if days == [today, today] else "%Y-%m-%d %H:%M"
    begin, end = (time.strftime(form, time.localtime(t)) for t in (since, until))
    return f"at {begin}" if begin == end else f"from {begin} to {end}"


def left(until: float) -> str:
    """Return the time from now until then."""
    return lasting(until - time.time())


def rate(of: Rate) -> str:
    """Return a rate as people read it: 6/1h."""
    return f"{of.count}/{Duration(of.per)}"


def number(count: int) -> str:
    """Return a count as people read it."""
    return f"{count:,}"


def short_number(count: int) -> str:
    """Return a count in at most five characters."""
    units = ["", "k", "M", "G", "T"]
    while count > 9999 and units[1:]:
        count //= 1000
        units.pop(0)
    return f"{count}{units[0]}"


def plain(value: Any) -> Any:
    """Return structs as JSON types, with wall-clock times as ISO 8601 (null for never)."""
    return _timed(msgspec.to_builtins(value))


def _timed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: (iso(item) if item else None)
            if key in _TIMES and isinstance(item, (int, float))
            else _timed(item)
            for key, item in value.items()
        }
    return [_timed(item) for item in value] if isinstance(value, list) else value


def to_json(value: Any) -> bytes:
    """Return one line of JSON that a terminal can bear."""
    return safe_json(msgspec.json.encode(value) + b"\n")


def safe_json(lines: bytes) -> bytes:
    r"""Return JSON with what a terminal cannot bear as `\u` escapes; its values stay the same."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return _NOT_ASCII.sub(_json_code, lines.decode()).encode()


def _json_code(match: re.Match[str]) -> str:
    char = match[0]
    if harmless(char):
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def print_json(value: Any) -> None:
    """Print a result of the protocol, or anything that JSON knows, as one line."""
    result = plain(value)
    if isinstance(value, msgspec.Struct):
        result.pop("kind", None)
    click.echo(to_json(result), nl=False)


def paragraph(finding: Finding) -> list[tuple[str, str]]:
    """Return a finding as (state, line); not yet printable.

    Only its first line has a state, so that no text, whoever wrote it, looks like another finding.
    """
    lines = f"{finding.what}\n{finding.hint}".rstrip().split("\n")
    return [(finding.label if number == 0 else "", line) for number, line in enumerate(lines)]


def width() -> int:
    """Return the columns of the terminal; more than any line has where there is none."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else sys.maxsize


def cut_to(most: int, text: str) -> str:
    """Return a text, printable, shortened to a number of characters."""
    return _shortened(most, printable(text))


def cut(line: str) -> str:
    """Return a line, printable, as far as the terminal is wide; whole where there is none."""
    return _shortened(width(), printable(line).rstrip())


def _shortened(most: int, text: str) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, printable; columns titled `>…` are aligned right."""
    return _aligned(columns, _cells(columns, rows))


def _cells(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the titles of a table and its rows, printable."""
    titles = [title.lstrip(">") for title in columns]
    return [titles, *([printable(cell) for cell in row] for row in rows)]


def _aligned(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(width) if title.startswith(">") else cell.ljust(width)
            for cell, width, title in zip(row, widths, columns, strict=True)
        ]
        lines.append(" ".join(aligned).rstrip())
    return lines


def coloured(text: str, colour: str | None, *, bold: bool = False) -> str:
    """Return a text in a colour, on a terminal that shows colours (NO_COLOR is honoured)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "")
    if plain or not sys.stdout.isatty() or not (colour or bold):
        return text
    return click.style(text, fg=colour, bold=bold or None)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print a table, see `table`.

    On a terminal lines that are too long are cut at their end: rich takes from every column, and
    an address that is not whole is no address.

    Args:
        columns: their titles.
        rows: their cells, one for each column.
        colours: of second cells, by their first word.
    """
    cells = _cells(columns, rows)
    first, most = max(len(row[0]) for row in cells), width()
    lines = [
        _with_colour(_shortened(most, line), first, row, colours)
        for line, row in zip(_aligned(columns, cells), cells, strict=True)
    ]
    click.echo("\n".join(lines))


def _with_colour(line: str, first: int, row: Sequence[str], colours: Mapping[str, str]) -> str:
    """Return a line of a table with its second cell in a colour, if that has one."""
    colour = colours.get(row[1].partition(" ")[0]) if colours else None
    start = first + 1
    end = start + len(row[1]) if colour else start
    return line[:start] + coloured(line[start:end], colour) + line[end:]
