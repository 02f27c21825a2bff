"""Forms in which others publish lists: an object a line (Spamhaus DROP) and CSV. Owns no state."""

import csv
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from throttled import address
from throttled.errors import UsageError

#: What a column or field with the address or network is called, the best first.
_ADDRESS = (
    "subject",
    "cidr",
    "network",
    "ip",
    "ip_address",
    "address",
    "dst_ip",
    "src_ip",
    "value",
)
_WHY = ("why", "reason", "sblid", "comment", "description", "note", "malware", "scenario")
_ACTIONS = ("ban", "throttle", "allow")


def is_json_lines(data: bytes) -> bool:
    """Return whether a list has an object on each line: the first has an address."""
    first, _, _ = data.lstrip().partition(b"\n")
    try:
        found = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and any(name in found for name in _ADDRESS)


def json_line(line: bytes, _now: float) -> dict[str, Any] | None:
    """Return the fields of a line; of Spamhaus' last line the number of records.

    Raises:
        UsageError: it is no object with an address.
    """
    if not line.strip():
        return None
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError("not an object")
    if row.get("type") == "metadata":
        return {"records": row["records"]} if isinstance(row.get("records"), int) else None
    return _fields({str(key): value for key, value in row.items()})


def columns(lines: Sequence[str]) -> list[str] | None:
    """Return the names of the columns of CSV; None where the list is no CSV."""
    first = re.split("[#;]", next((line for line in lines if _content(line)), ""))[0]
    try:
        cells = _cells(first)
    except UsageError:
        return None
    if len(cells) < 2:
        return None
    names = [cell.strip().lower().replace(" ", "_") for cell in cells]
    if any(name in _ADDRESS for name in names):
        return names
    try:
        address.subject(cells[0].strip())
    except ValueError:
        return None
    return ["subject", *("" for _ in cells[1:])]


def csv_line(names: Sequence[str], line: str, _now: float) -> dict[str, Any] | None:
    """Return the fields of a line of CSV; None for comments and the names of the columns.

    Raises:
        UsageError: it has no address.
    """
    if not _content(line):
        return None
    cells = [cell.strip() for cell in _cells(line)]
    if [cell.lower().replace(" ", "_") for cell in cells] == list(names):
        return None
    return _fields(dict(zip(names, cells, strict=False)))


def _content(line: str) -> str:
    """Return a line without a comment that fills it."""
    return "" if re.match(r"\s*[#;]", line) else line.strip()


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.strip()], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"not CSV: {error}") from error


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    subject = next((row[name] for name in _ADDRESS if isinstance(row.get(name), str)), "")
    if not subject:
        raise UsageError("there is no address in it")
    # As `cscli decisions list -o raw` writes it.
    subject = re.sub(r"\A(?:ip|range):(?=.)", "", subject, flags=re.IGNORECASE)
    why = next((str(row[name]) for name in _WHY if row.get(name)), "")
    found: dict[str, Any] = {"subject": subject, "why": why[:500]}
    if row.get("action") in _ACTIONS:
        found["action"] = row["action"]
    return found
