"""Old logs: which rotated files belong to one, in what order to read them, and reading them.

Owns no state. Lines without a year are dated by when their file was last written. Logs are read one
after the other, also where they overlap in time: those of two instances are better read apart.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import tzinfo
from itertools import chain
from pathlib import Path

from throttled.decide.hosts import local
from throttled.facts import Facts
from throttled.log_paths import is_journal
from throttled.parse.parser import Parser
from throttled.tail import siblings
from throttled.tail.archive import pieces, read_log
from throttled.tail.journal import JournalTail

_SHOWN = 5  # names of other hosts


def in_order(paths: Iterable[str], zone: tzinfo) -> list[str]:
    """Return logs by the times of their first events: rotated logs are read oldest first.

    Args:
        paths: see `read`; standard input is taken as it comes.
        zone: of lines that name none.

    Raises:
        SourceError: a log cannot be read.
    """
    return sorted(paths, key=lambda path: _begin(path, zone))


def reference(path: str) -> float:
    """Return when a log was last written: lines without a year are from the year before that."""
    if path != "-":
        with suppress(OSError):  # reported by the code that reads it
            return Path(path).stat().st_mtime
    return time.time()


def rotated(path: str) -> list[str]:
    """Return a log and what rotation made of it before, oldest first."""
    files = siblings.scan(path)
    log = next((file for file in files if file.scheme == "log"), None)
    return [*(str(file.path) for file in siblings.older(files, log)), path] if log else [path]


def read(path: str) -> Iterator[tuple[list[str], int]]:
    """Yield the lines of a log in batches, each with the bytes consumed of a file so far.

    Args:
        path: a file, plain or compressed; "-" is standard input; of systemd's journal see
            `throttled.log_paths`.

    Raises:
        SourceError: it cannot be read, or is damaged; good lines before that were yielded.
    """
    if not is_journal(path):
        yield from read_log(path)
        return
    with closing(JournalTail(None, from_start=True, path=path)) as tail:
        while batch := tail.read():
            yield batch.lines, 0
            if batch.done:
                break


def with_hosts(
    path: str, facts: Facts, zone: tzinfo
) -> tuple[Iterator[tuple[list[str], int]], list[str]]:
    """Return a log's lines, and the names of its hosts if none of them is this one.

    A file is looked through for this host's names first. Standard input can be read once: there
    the first lines with events decide.

    Args:
        path: see `read`.
        facts: with the names of this host; without any, every host is it.
        zone: of lines that name none.

    Raises:
        SourceError: the log cannot be read.
    """
    if is_journal(path) or not facts.hostnames:
        return read(path), []
    parse = Parser(zone, reference(path)).event
    labels = {f" {name.partition('.')[0]}".lower() for name in facts.hostnames}
    foreign = path != "-" and not _mentioned(path, labels)
    begun: list[tuple[list[str], int]] = []
    others: dict[str, None] = {}
    batches = read(path)
    for lines, consumed in batches:
        if path == "-":
            begun.append((lines, consumed))
        text = "" if not others else "\n".join(lines).lower()
        if others and not any(label in text for label in labels):
            continue
        for event in filter(None, map(parse, lines)):
            if event.client and event.host and facts.ours(event.host):
                return _again(path, begun, batches), []
            if event.client and event.host and not local(event.host):
                others[event.host] = None
        if others and (path == "-" or foreign):
            break
    return _again(path, begun, batches), list(others)[:_SHOWN]


def _mentioned(path: str, texts: Iterable[str]) -> bool:
    """Return whether one of some texts is anywhere in a log, which is fast: no line is parsed."""
    wanted = [text.encode() for text in texts]
    longest = max(map(len, wanted))
    before = b""
    for piece, _ in pieces(path):
        some = before + piece.lower()
        if any(text in some for text in wanted):
            return True
        before = some[-longest:]
    return False


def _again(
    path: str, begun: list[tuple[list[str], int]], rest: Iterator[tuple[list[str], int]]
) -> Iterator[tuple[list[str], int]]:
    return chain(begun, rest) if path == "-" else read(path)


def _begin(path: str, zone: tzinfo) -> float:
    if path == "-":
        return 0.0
    parse = Parser(zone, reference(path)).event
    for lines, _ in read(path):
        return next((e.time for line in lines if (e := parse(line)) is not None), 0.0)
    return 0.0
