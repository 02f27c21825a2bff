"""What commands about many subjects share: parts of a command, progress, and their report."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import click
import msgspec
from msgspec import Struct, field

from throttled.cli import output
from throttled.cli.daemon import ask
from throttled.cli.lists import Bad
from throttled.control.bulk import UnbanManyResult
from throttled.control.fields import Part
from throttled.control.requests import MAX_ENTRIES, MAX_REQUEST, Entered, Import
from throttled.control.results import ImportResult
from throttled.errors import ThrottledError

#: Bad entries reported one by one on the screen.
_SHOWN = 100

#: Of a request: bytes for what is beside its entries or subjects.
_ROOM = 400

T = TypeVar("T")
Numbered = tuple[int, Entered]


class Outcome(Struct):
    """What became of many subjects."""

    done: int
    skipped: list[Bad]
    confirmed: bool = True
    would: bool = False  # the daemon observes: nothing changed in the kernel
    outcomes: dict[str, int] = field(default_factory=dict)  # of a list by name

    @property
    def code(self) -> int:
        """The exit code of the command."""
        return 1 if self.skipped or not self.confirmed else 0

    def add(self, answer: ImportResult | UnbanManyResult, sent: Sequence[tuple[int, str]]) -> None:
        """Add what became of a part.

        Args:
            answer: of the daemon.
            sent: lines and subjects, by which it names what it refused.
        """
        self.skipped += [Bad(*sent[refusal.index], refusal.why) for refusal in answer.refused]
        self.done += answer.done
        self.confirmed &= answer.confirmed
        self.would |= answer.would


def parts(pieces: Sequence[T], so_far: Outcome) -> Iterator[tuple[T, Part | None]]:
    """Yield pieces, each with what makes it a part of one command; None where there is one only.

    Args:
        pieces: of the command.
        so_far: what became of the pieces before, when the next one is asked for.
    """
    if len(pieces) == 1:
        yield pieces[0], None
        return
    command = secrets.token_hex(8)
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        removed = so_far.outcomes.get("removed", 0)
        yield piece, Part(command, number, last, so_far.done, len(so_far.skipped), removed)


def show(result: Outcome, *, as_json: bool, sentence: Callable[[], str]) -> None:
    """Print what became of many subjects.

    Args:
        result: of the command.
        as_json: as JSON.
        sentence: returns the last line.
    """
    result.skipped.sort(key=lambda bad: bad.line)
    if as_json:
        output.print_json(result)
        return
    for bad in result.skipped[:_SHOWN]:
        click.echo(output.printable(f"line {bad.line}: {bad.text}: {bad.why}; skipped"), err=True)
    if len(result.skipped) > _SHOWN:
        more = len(result.skipped) - _SHOWN
        click.echo(f"and {more:,} more; --json names them all", err=True)
    observed = "; observing, nothing is enforced" if result.would else ""
    click.echo(sentence() + observed)
    if not result.confirmed:
        click.echo("the kernel did not confirm all of them; see: throttled status", err=True)


def pieces(items: Sequence[T], length: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield items in pieces that fit into a request.

    Args:
        items: of a command.
        length: returns the bytes of an item in a request.
        most: items in a request.
    """
    piece: list[T] = []
    size = 0
    for item in items:
        more = length(item)
        if piece and (len(piece) == most or size + more > MAX_REQUEST - _ROOM):
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += more
    if piece:
        yield piece


def batches(entries: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """Yield the entries of a list in pieces that fit into a request."""
    return pieces(entries, lambda pair: len(msgspec.json.encode(pair[1])) + 1, MAX_ENTRIES)


def send(batch: Sequence[Numbered], request: Import, result: Outcome) -> None:
    """Ask for an import of entries.

    Args:
        batch: the entries of the request, with their lines.
        request: what is sent.
        result: changed by the answer.

    Raises:
        ThrottledError: the daemon's, with how far the import came.
    """
    try:
        answer = ask(request, ImportResult)
    except ThrottledError as error:
        if result.done and batch:
            error.message += f" (after {result.done:,} entries; up to line {batch[0][0] - 1})"
        raise
    result.add(answer, [(number, entry.subject) for number, entry in batch])
    for name, count in answer.outcomes.items():
        result.outcomes[name] = result.outcomes.get(name, 0) + count
