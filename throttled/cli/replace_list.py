"""`throttled import --list NAME`: a file becomes the whole content of a list.

What is new, or ends soon, is sent; then what is no longer in the file is removed. So a list is
never empty in between, and a file fetched again changes little. A file with lines that are no
entries, or with none at all, changes nothing: it may be an error page or cut off.
"""

import time
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from throttled.cli import bulk
from throttled.cli.bulk import Numbered, Outcome
from throttled.cli.daemon import ask
from throttled.cli.lists import Bad
from throttled.cli.progress import steps
from throttled.control.bulk import LASTING
from throttled.control.requests import MAX_ROWS, Entered, Import, List
from throttled.control.results import ListResult
from throttled.errors import UsageError
from throttled.model import SCOPES, Scope, Snapshot

#: Of a file: what is fetched is not trusted. A list of 200,000 entries has some 4 MiB.
BYTES = 16 << 20
#: Entries removed by one request.
_REMOVED = 500
_SHOWN = 5
#: Each is an element for each scope; `operator.listed.MOST` elements may be active.
_ENTRIES = 200_000

Key = tuple[str, Scope]
Piece = tuple[Sequence[Numbered], list[Key]]


def command(
    name: str, entries: Sequence[Numbered], result: Outcome, *, force: bool, as_json: bool
) -> int:
    """Replace a list; return the exit code.

    Args:
        name: of the list.
        entries: of the file, with their lines.
        result: has the bad lines; changed.
        force: networks wider than the floor are accepted.
        as_json: print JSON.

    Raises:
        UsageError: the file cannot be used; nothing was changed.
        ThrottledError: the daemon's.
    """
    _refuse_unreadable(name, entries, result.skipped)
    active = _active(name)
    now = time.time()
    fresh, unchanged = [], 0
    for pair in entries:
        if _unchanged(pair[1], active, now):
            unchanged += len(_keys(pair[1]))  # as the other outcomes: in each scope
        else:
            fresh.append(pair)
    result.outcomes = {"unchanged": unchanged}
    result.done = len(entries) - len(fresh)
    wanted = {key for _, entry in entries for key in _keys(entry)}
    gone = [key for key in active if key not in wanted]
    pieces = list(_pieces(fresh, gone))
    with steps(len(fresh) + len(gone)) as advance:
        for (batch, removed), part in bulk.parts(pieces, result):
            sent = [entry for _, entry in batch]
            bulk.send(batch, Import(sent, force, name=name, remove=removed, part=part), result)
            advance(len(batch) + len(removed))
    bulk.show(result, as_json=as_json, sentence=lambda: _sentence(name, result))
    return 0 if result.confirmed else 1


def _refuse_unreadable(name: str, entries: Sequence[Numbered], skipped: Sequence[Bad]) -> None:
    """Refuse a file with lines that are no entries, with none, or with some to allow.

    Raises:
        UsageError: it is one.
    """
    hint = f"the list {name} is unchanged; to remove it: throttled unban --list {name}"
    unreadable = [bad for bad in skipped if not bad.refused]
    if unreadable:
        first = "; ".join(f"line {b.line}: {b.text}: {b.why}" for b in unreadable[:_SHOWN])
        lines = "1 line" if len(unreadable) == 1 else f"{len(unreadable):,} lines"
        raise UsageError(f"{lines} cannot be read: {first}", hint)
    if not entries:
        raise UsageError("there are no entries in it", hint)
    if len(entries) > _ENTRIES:
        raise UsageError(f"it has more than {_ENTRIES:,} entries", hint)
    if any(entry.action == "allow" for _, entry in entries):
        raise UsageError("a list by name cannot allow: import it without --list", hint)


def _active(name: str) -> dict[Key, Snapshot]:
    """Return what is active from a list."""
    found: dict[Key, Snapshot] = {}
    request = List(name=name, max=MAX_ROWS, new=True)
    while True:
        page = ask(request, ListResult)
        found |= {(row.subject, row.scope): row for row in page.rows}
        if not page.next:
            return found
        request = replace(request, after=page.next)


def _unchanged(entry: Entered, active: dict[Key, Snapshot], now: float) -> bool:
    """Return whether an entry is active and lasts for half of its time at least."""
    half = now + (entry.seconds or LASTING) / 2
    rows = [active.get(key) for key in _keys(entry)]
    return all(row is not None and row.action == entry.action and row.until > half for row in rows)


def _keys(entry: Entered) -> list[Key]:
    return [(entry.subject, scope) for scope in (SCOPES if entry.scope is None else (entry.scope,))]


def _pieces(fresh: Sequence[Numbered], gone: Sequence[Key]) -> Iterator[Piece]:
    for batch in bulk.batches(fresh):
        yield batch, []
    for at in range(0, len(gone), _REMOVED):
        yield [], list(gone[at : at + _REMOVED])
    if not fresh and not gone:  # the daemon learns that it names nothing else
        yield [], []


def _sentence(name: str, result: Outcome) -> str:
    words = ("banned", "throttled", "unchanged", "known", "removed")
    counts = [f"{result.outcomes[w]:,} {w}" for w in words if result.outcomes.get(w)]
    counts += [f"{len(result.skipped):,} skipped"] if result.skipped else []
    return f"list {name}: {', '.join(counts) or 'nothing changed'}"
