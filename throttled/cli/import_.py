"""`throttled import`."""

import sys
import time
from pathlib import Path

import click
from msgspec.structs import replace

from throttled.cli import bulk, lists, output, replace_list
from throttled.cli.bulk import Numbered, Outcome
from throttled.cli.lists import Bad, Wanted, Word
from throttled.cli.options import Command, for_option, force_option, json_option, list_option
from throttled.cli.progress import steps
from throttled.control.requests import Import
from throttled.errors import UsageError

#: Warnings that are printed.
_WARNINGS = 10


@click.command(
    "import",
    cls=Command,
    examples=(
        "throttled import --as ban --for 1d bad.txt",
        "throttled import allowed.json",
        "throttled import --as allow offices.txt",
        "throttled import --list spamhaus-drop --as ban drop.txt",
    ),
)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--as",
    "action",
    type=click.Choice(lists.WORDS),
    help="Action for every entry (default: as given in the list).",
)
@list_option("Replace the list of this name.")
@for_option("seconds", "Duration: 10m, 4h, 1d (default: as given in the list).")
@force_option
@json_option
def command(  # noqa: PLR0913 - the words of the command
    *,
    file: str,
    action: Word | None,
    name: str | None,
    seconds: float | None,
    force: bool,
    as_json: bool,
) -> int:
    """Ban, throttle or allow all addresses and networks on a list.

    A list is text with one entry per line: an address or network, then optionally ban, throttle or
    allow, mx or submission, and a duration (4h) or end. Text after # or ; is stored as the reason.
    JSON is accepted as list, allow and export print it, and an object per line (Spamhaus DROP); CSV
    with an address in the first column, or in one named ip, address, network, cidr or value.
    Entries that cannot be imported are reported with their line and skipped; the exit code is then
    1. Protected addresses are never banned.

    --list NAME makes the file the whole content of a list: entries that are no longer in it are
    removed. The default action is throttle, for 7 days. A client with good history is throttled
    shortly in place of a ban, and nothing that is active is weakened. A file with a line that is no
    entry changes nothing. throttled unban --list NAME removes the list.
    """
    cap = replace_list.BYTES if name else lists.BYTES
    data = _data(file, cap)
    result = Outcome(0, [])
    entries: list[Numbered] = []
    wanted = Wanted(action, seconds, force, "throttle" if name else None)
    for found in lists.read(data, wanted, time.time()):
        if isinstance(found, Bad):
            result.skipped.append(found)
        else:
            entries.append(found)
    for warning in wanted.warnings[:_WARNINGS]:
        click.echo(output.printable(f"throttled: {warning}"), err=True)
    if name:
        cut = lists.unended(data)
        result.skipped = [replace(b, refused=b.refused and b.line != cut) for b in result.skipped]
        return replace_list.command(name, entries, result, force=force, as_json=as_json)
    with steps(len(entries)) as advance:
        for batch, part in bulk.parts(list(bulk.batches(entries)), result):
            bulk.send(batch, Import([entry for _, entry in batch], force, part=part), result)
            advance(len(batch))
    bulk.show(
        result,
        as_json=as_json,
        sentence=lambda: f"{result.done:,} done, {len(result.skipped):,} skipped",
    )
    return result.code


def _data(file: str, cap: int) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(cap + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(cap + 1)
    except OSError as error:
        hint = "name a file with an entry a line, or - for standard input"
        raise UsageError(f"cannot read {file}: {error.strerror}", hint) from error
    if len(data) > cap:
        raise UsageError(f"{file} is longer than {cap >> 20} MB", "split it")
    return data
