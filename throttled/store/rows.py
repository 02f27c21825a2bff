"""The types of this package, and how compound fields are written into a column. Owns no state."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from throttled.model import Line, Rate
from throttled.skipped import Skipped

#: What is kept of a decision's texts and lines.
TEXT = 1000
LINES = 64

_SIGN = 1 << 63

Row = TypeVar("Row", bound=Struct)


class StoredPosition(Struct, frozen=True, gc=False):
    """How far a log has been read."""

    path: str
    state: bytes  # which file, how far, how to know it again: the tail's business


class Allowed(Struct, frozen=True):
    """An entry of the allowlist."""

    what: str  # subject or host-name suffix
    until: float  # wall clock; 0.0 = for ever
    note: str
    since: float
    name: str = ""  # the host name whose address it is: `allow --resolve`
    missing: float = 0.0  # since when DNS no longer returns it for the name; 0.0 = it does
    origin: str = "operator"  # or list:NAME


class Host(Struct, frozen=True):
    """A name of this host that was found in its log."""

    name: str
    since: float


def clip(text: str) -> str:
    """Return what is kept of a text; what UTF-8 cannot write (a shell's stray bytes) as `?`."""
    text = text if len(text) <= TEXT else text[:TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def write_lines(lines: tuple[Line, ...]) -> str:
    """Return the column `lines` of a decision: the latest `LINES` of them."""
    if not lines:
        return "[]"
    return msgspec.json.encode(
        [n for line in lines[-LINES:] for n in (line.source, line.offset)]
    ).decode()


def read_lines(column: str | None) -> tuple[Line, ...]:
    """Return the lines of a decision; none if it was deleted, or altered by another program."""
    try:
        numbers = iter(_numbers.decode(column or "[]"))
        return tuple(Line(source, offset) for source, offset in zip(numbers, numbers, strict=True))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return ()


def struct(kind: type[Row], row: Sequence[object]) -> Row:
    """Return a row as a struct whose fields are the columns.

    Raises:
        msgspec.ValidationError: another program altered it: SQLite puts any type into a column.
    """
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=False)), kind)


def structs(kind: type[Row], rows: Iterable[Sequence[object]], skipped: Skipped) -> list[Row]:
    """Return rows as structs, without those that another program altered so that they are none.

    Args:
        kind: see `struct`.
        rows: of SQLite.
        skipped: records the others.
    """
    found: list[Row] = []
    skipped.run("row", rows, lambda row: found.append(struct(kind, row)))
    return found


_numbers = msgspec.json.Decoder(list[int])


def write_rate(rate: Rate | None) -> str:
    """Return the column `rate` of a throttle; '' for the configured one."""
    if rate is None:
        return ""
    return msgspec.json.encode((rate.count, rate.per, rate.burst)).decode()


@lru_cache(maxsize=256)
def read_rate(column: str | None) -> Rate | None:
    """Return the rate of a throttle; None (the configured one) also where it is invalid."""
    try:
        return Rate(*_rate.decode(column)) if column else None
    except (msgspec.DecodeError, TypeError, ValueError):
        return None


_rate = msgspec.json.Decoder(tuple[int, float, int])


def snapshot(row: tuple[Any, ...], lines: tuple[Line, ...] = ()) -> tuple[object, ...]:
    """Return the fields of a Snapshot."""
    *fields, rate, origin, name = row
    return *fields, lines, read_rate(rate), origin, name


def signed(number: int) -> int:
    """Return an unsigned 64-bit number (overlayfs has such inodes) as SQLite's signed integer."""
    return number - 2 * _SIGN if number >= _SIGN else number


def unsigned(number: int) -> int:
    """Undo `signed`."""
    return number + 2 * _SIGN if number < 0 else number
