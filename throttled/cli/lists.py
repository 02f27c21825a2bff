"""Lists of addresses and networks as text, JSON and CSV: reading and writing them.

Text has an entry a line: an address, a network or (to allow) a host-name suffix, then in any order
`ban`, `throttle` or `allow`; `mx` or `submission`; how long (`4h`) or until when (ISO 8601). What
follows a `#` or `;` is a comment, kept as the reason; empty lines are skipped. JSON is what
`list --json`, `allow --json` and `export --format json` print, or an array of such rows or of
addresses; or an object a line, as Spamhaus publishes DROP
(https://www.spamhaus.org/drop/drop_v4.json). CSV has a comma in its first line.

Limits: `BYTES` in all, `LINE` characters a line. A bad entry is named, with its number and reason,
and never stops the others.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from throttled.cli import list_forms, output
from throttled.cli.options import host_bits
from throttled.control.canonical import entered
from throttled.control.requests import Entered
from throttled.duration import Duration
from throttled.errors import RefusedError, ThrottledError, UsageError
from throttled.model import SCOPES, Snapshot

BYTES = 256 * 1024 * 1024
LINE = 2000
#: Characters of what is wrong with an entry: it quotes it.
WHY = 300

Word = Literal["ban", "throttle", "allow"]
WORDS: tuple[Word, ...] = ("ban", "throttle", "allow")
#: Before the action of an entry that was only observed: read, and refused unless --as is given.
WOULD = "would-"
_OBSERVED = tuple(f"{WOULD}{word}" for word in ("ban", "throttle"))


class Wanted(Struct, frozen=True):
    """What the command line says of every entry; None = what the list says."""

    action: Word | None = None
    seconds: float | None = None
    force: bool = False
    default: Word | None = None  # where neither that nor the list names one
    warnings: list[str] = field(default_factory=list)  # filled while the list is read


class Bad(Struct, frozen=True, omit_defaults=True):
    """An entry that cannot be used."""

    line: int  # of text; of JSON the number of the row
    text: str
    why: str
    refused: bool = False  # it is understood, and not allowed


_COMMENT = re.compile("[#;]")

Read = tuple[int, Entered] | Bad


def read(data: bytes, wanted: Wanted, now: float) -> Iterator[Read]:
    """Yield the entries of a list with their numbers, and those that are bad.

    Args:
        data: text or JSON.
        wanted: what the command line says.
        now: wall clock; what ended before is bad.

    Raises:
        UsageError: JSON that cannot be read at all.
    """
    rows, read_row = _form(data.removeprefix(codecs.BOM_UTF8))
    records: int | None = None
    count = 0
    for number, row in enumerate(rows, 1):
        try:
            found = read_row(row, now)
            if found is None:
                continue
            if "records" in found:
                records = found["records"]
                continue
            count += 1
            yield number, _finished(found, wanted)
        except ThrottledError as error:
            refused = isinstance(error, RefusedError)
            yield Bad(number, str(row)[:100].strip(), error.message[:WHY], refused)
    if records is not None and records != count:
        yield Bad(0, "", f"it has {count} entries and should have {records}: a part is missing")


def unended(data: bytes) -> int:
    """Return the line at the end of a text without a line end: it may be cut off; 0 for none."""
    if data.endswith(b"\n") or data.lstrip()[:1] in (b"{", b"["):
        return 0
    return data.count(b"\n") + 1


_ReadRow = Callable[[Any, float], dict[str, Any] | None]


def _form(data: bytes) -> tuple[Iterable[Any], _ReadRow]:
    """Return the rows of a list, and what reads one of its form.

    Raises:
        UsageError: JSON that cannot be read at all.
    """
    if data.lstrip()[:1] in (b"{", b"["):
        if list_forms.is_json_lines(data):
            return data.splitlines(), list_forms.json_line
        return _rows(data), _row
    lines = data.decode("utf-8", "replace").split("\n")
    columns = list_forms.columns(lines)
    return lines, _line if columns is None else partial(list_forms.csv_line, columns)


def line(row: Snapshot, *, would: bool = False) -> str:
    """Return what is active, or would be, as a line of text that `read` understands."""
    action = f"{WOULD}{row.action}" if would else row.action
    return f"{row.subject} {action} {row.scope} {output.iso(row.until)}{_comment(row.why)}"


def allowed_line(what: str, until: float, note: str) -> str:
    """Return an entry of the allowlist as a line of text that `read` understands."""
    return f"{what} allow {output.iso(until) if until else ''}".rstrip() + _comment(note)


def _comment(text: str) -> str:
    return f" # {output.printable(text)}" if text else ""


def _finished(found: dict[str, Any], wanted: Wanted) -> Entered:
    if wanted.action:
        found["action"] = wanted.action
    if wanted.seconds:
        found["seconds"] = wanted.seconds
    if found.get("action") is None:
        found["action"] = wanted.default
    if found.get("action") is None:
        raise UsageError("it names no action: use --as ban, throttle or allow")
    if found["action"] == "exempt":
        raise UsageError("an exemption is not imported: `throttled unban --for` makes one")
    if found["action"] in _OBSERVED:
        raise UsageError(f"{found['action']}: it was only observed; to enforce it, use --as")
    if found["action"] == "allow":
        found["scope"] = None
    try:
        entry = msgspec.convert(found, Entered)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    done = entered(replace(entry, why=entry.why[:500]), force=wanted.force)
    if warning := host_bits(entry.subject, done.subject):
        wanted.warnings.append(warning)
    return done


def _line(text: str, now: float) -> dict[str, Any] | None:
    """Return the fields of a line; None where there is no entry on it."""
    if len(text) > LINE:
        raise UsageError(f"longer than {LINE} characters")
    fields, comment = (*_COMMENT.split(text, 1), "")[:2]
    words = fields.replace("\t", " ").split()
    if not words:
        return None
    found: dict[str, Any] = {"subject": words[0], "why": comment.strip()[:500]}
    for word in words[1:]:
        key, value = _meant(word, now)
        if key in found:
            raise UsageError(f"{word!r}: said twice")
        found[key] = value
    return found


def _meant(word: str, now: float) -> tuple[str, Any]:
    if word in WORDS or word in _OBSERVED:
        return "action", word
    if word in SCOPES:
        return "scope", word
    with suppress(ValueError):
        return "seconds", float(Duration.parse(word))
    return "seconds", _left(word, now)


def _left(until: str, now: float) -> float:
    try:
        seconds = datetime.fromisoformat(until).astimezone().timestamp() - now
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{until!r} is no action, scope, duration or time") from error
    if seconds < 1:
        raise UsageError(f"it ended {until}")
    return seconds


def _rows(data: bytes) -> list[Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", "or a list as text, an address a line") from error
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise UsageError("there are no rows in it", "write what `throttled list --json` prints")
    if isinstance(document, dict) and document.get("would") is True:
        return [_observed(row) for row in rows]
    return rows


def _observed(row: Any) -> Any:
    return {**row, "action": f"{WOULD}{row.get('action')}"} if isinstance(row, dict) else row


def _row(row: Any, now: float) -> dict[str, Any]:
    """Return the fields of a row of JSON."""
    if isinstance(row, str):
        return {"subject": row}
    if not isinstance(row, dict):
        raise UsageError("neither an address nor an object")
    allowed = "what" in row
    found: dict[str, Any] = {
        "subject": row.get("what" if allowed else "subject"),
        "action": "allow" if allowed else row.get("action"),
        "scope": row.get("scope"),
        "why": str(row.get("note" if allowed else "why") or "")[:500],
    }
    if row.get("until") is not None:
        found["seconds"] = _left(str(row["until"]), now)
    return found
