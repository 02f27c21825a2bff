"""`throttled unban` of many: named ones, or what a filter selects, in parts. Owns no state."""

import math
import sys
from collections.abc import Iterator, Sequence

import click
from msgspec.structs import replace

from throttled.cli import bulk, output
from throttled.cli.bulk import Outcome
from throttled.cli.lists import BYTES, WHY, Bad
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import one_subject, subject
from throttled.cli.progress import steps
from throttled.control.bulk import MAX_UNBANS, UnbanMany, UnbanManyResult
from throttled.control.requests import List
from throttled.control.results import ListResult
from throttled.errors import ThrottledError, UsageError
from throttled.model import RESTRICTING, Action


def named(words: Sequence[str], request: UnbanMany, *, as_json: bool) -> int:
    """Unban subjects; return the exit code.

    Args:
        words: as written; ("-",) reads them from standard input.
        request: what is said of all of them.
        as_json: print JSON.

    Raises:
        UsageError: a word on the command line is no subject.
        ThrottledError: the daemon's, the store's or the firewall's.
    """
    result = Outcome(0, [])
    if list(words) == ["-"]:
        found = list(_read(result.skipped))
    else:
        found = [(number, one_subject(word)) for number, word in enumerate(words, 1)]
    if not found and not result.skipped:
        raise UsageError("no addresses on standard input", "write one a line")
    notes: list[str] = []
    once = list({each: (line, each) for line, each in reversed(found)}.values())
    pieces = list(bulk.pieces(once, _length, MAX_UNBANS))
    with steps(len(found)) as advance:
        for piece, part in bulk.parts(pieces, result):
            subjects = [each for _, each in piece]
            asked = replace(request, subjects=subjects, part=part)
            answer = ask_or_offline(asked, UnbanManyResult)
            result.add(answer, piece)
            _note(answer, notes)
            advance(len(piece))
    return _show(result, notes, as_json=as_json)


def selected(request: UnbanMany, *, as_json: bool) -> int:
    """Unban what a filter selects; return the exit code.

    Args:
        request: the filter.
        as_json: print JSON.

    Raises:
        ThrottledError: nothing is selected; or the daemon's, the store's or the firewall's.
    """
    result, notes = Outcome(0, []), list[str]()
    total = sum(
        ask_or_offline(_list(request, action), ListResult, quiet=True).total
        for action in RESTRICTING
    )
    pieces = [request] * max(1, math.ceil(total / MAX_UNBANS))
    with steps(total) as advance:
        for piece, part in bulk.parts(pieces, result):
            answer = ask_or_offline(replace(piece, part=part), UnbanManyResult)
            result.add(answer, ())
            _note(answer, notes)
            advance(answer.done)
            if not answer.more:
                break
    return _show(result, notes, as_json=as_json)


def _list(request: UnbanMany, action: Action) -> List:
    """Return the question how many entries with an action a filter selects."""
    what = request.scope, action, request.within, request.limit
    return List(*what, name=request.name, max=1)


def _note(answer: UnbanManyResult, notes: list[str]) -> None:
    if answer.message and answer.message not in notes:
        notes.append(answer.message)


def _show(result: Outcome, notes: Sequence[str], *, as_json: bool) -> int:
    for note in notes:
        click.echo(output.printable(f"throttled: {note}"), err=True)
    skipped = f", {len(result.skipped):,} not" if result.skipped else ""
    bulk.show(result, as_json=as_json, sentence=lambda: f"{result.done:,} unbanned{skipped}")
    return result.code


def _read(bad: list[Bad]) -> Iterator[tuple[int, str]]:
    """Yield the subjects on standard input with their lines; what is none is added to `bad`."""
    data = sys.stdin.buffer.read(BYTES + 1)
    if len(data) > BYTES:
        raise UsageError(f"standard input is longer than {BYTES >> 20} MB", "split it")
    for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
        word = line.partition("#")[0].partition(";")[0].split()[:1]
        if word:
            try:
                yield number, subject(word[0])
            except ThrottledError as error:
                bad.append(Bad(number, word[0][:100], error.message[:WHY]))


def _length(line_and_subject: tuple[int, str]) -> int:
    return len(line_and_subject[1].encode()) * 2 + 3  # what JSON may have to escape
