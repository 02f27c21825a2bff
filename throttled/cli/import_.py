"""`throttled import`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from throttled.cli import lists, output
from throttled.cli.daemon import ask
from throttled.cli.lists import Bad, Wanted, Word
from throttled.cli.options import Command, for_option, force_option, json_option
from throttled.cli.progress import progress
from throttled.control.protocol import MAX_ENTRIES, MAX_REQUEST, Entered, Import, ImportResult
from throttled.errors import ThrottledError, UsageError

#: Bad entries reported one by one on the screen.
_SHOWN = 100


class Imported(Struct):
    """What became of a list."""

    done: int
    skipped: list[Bad]
    confirmed: bool
    would: bool = False  # the daemon observes: nothing changed in the kernel


@click.command(
    "import",
    cls=Command,
    examples=(
        "throttled import --as ban --for 1d bad.txt",
        "throttled import allowed.json",
        "throttled import --as allow offices.txt",
    ),
)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--as",
    "action",
    type=click.Choice(lists.WORDS),
    help="Action for every entry (default: as given in the list).",
)
@for_option("seconds", "Duration: 10m, 4h, 1d (default: as given in the list).")
@force_option
@json_option
def command(
    *, file: str, action: Word | None, seconds: float | None, force: bool, as_json: bool
) -> int:
    """Ban, throttle or allow all addresses and networks on a list.

    A list is text with one entry per line: an address or network, then optionally ban, throttle or
    allow, mx or submission, and a duration (4h) or end. Text after # is stored as the reason. JSON
    is accepted as list, allow and export print it. Entries that cannot be imported are reported
    with their line and skipped; the exit code is then 1. Protected addresses are never banned.
    """
    data = _data(file)
    result = Imported(0, [], confirmed=True)
    entries: list[tuple[int, Entered]] = []
    for found in lists.read(data, Wanted(action, seconds, force), time.time()):
        if isinstance(found, Bad):
            result.skipped.append(found)
        else:
            entries.append(found)
    with progress([file]) as shown:
        sent = 0
        for batch in _batches(entries):
            _send(batch, result, force=force)
            sent += len(batch)
            if shown is not None:
                shown(file, len(data) * sent // len(entries))
    result.skipped.sort(key=lambda bad: bad.line)
    if as_json:
        output.print_json(result)
    else:
        _report(result)
    return 1 if result.skipped or not result.confirmed else 0


def _data(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(lists.BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(lists.BYTES + 1)
    except OSError as error:
        hint = "name a file with an entry a line, or - for standard input"
        raise UsageError(f"cannot read {file}: {error.strerror}", hint) from error
    if len(data) > lists.BYTES:
        raise UsageError(f"{file} is longer than {lists.BYTES >> 20} MB", "split it")
    return data


def _batches(entries: list[tuple[int, Entered]]) -> Iterator[list[tuple[int, Entered]]]:
    """Yield the entries in pieces that a request holds."""
    batch: list[tuple[int, Entered]] = []
    size = 0
    for pair in entries:
        length = len(msgspec.json.encode(pair[1])) + 1
        if batch and (len(batch) == MAX_ENTRIES or size + length > MAX_REQUEST - 100):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += length
    if batch:
        yield batch


def _send(batch: list[tuple[int, Entered]], result: Imported, *, force: bool) -> None:
    try:
        answer = ask(Import([entry for _, entry in batch], force), ImportResult)
    except ThrottledError as error:
        if result.done:
            error.message += f" (after {result.done:,} entries; up to line {batch[0][0] - 1})"
        raise
    for refusal in answer.refused:
        number, entry = batch[refusal.index]
        result.skipped.append(Bad(number, entry.subject, refusal.why))
    result.done += answer.done
    result.confirmed &= answer.confirmed
    result.would |= answer.would


def _report(result: Imported) -> None:
    for bad in result.skipped[:_SHOWN]:
        click.echo(output.printable(f"line {bad.line}: {bad.text}: {bad.why}; skipped"), err=True)
    if len(result.skipped) > _SHOWN:
        more = len(result.skipped) - _SHOWN
        click.echo(f"and {more:,} more; --json names them all", err=True)
    observed = "; observing, nothing is enforced" if result.would else ""
    click.echo(f"{result.done:,} done, {len(result.skipped):,} skipped{observed}")
    if not result.confirmed:
        click.echo("the kernel did not confirm all of them; see: throttled status", err=True)
