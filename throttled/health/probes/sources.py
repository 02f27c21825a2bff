"""Which logs there are, and whether their lines are understood. Reads the end of each."""

import errno
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress

from throttled.decide.hosts import Hosts
from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.host.zone import local_zone
from throttled.linux.failures import unreadable
from throttled.log_paths import JOURNAL, container_of, is_journal
from throttled.model import Finding
from throttled.parse.parser import Parser
from throttled.tail.finding import distinct, open_log
from throttled.tail.journal import JournalTail
from throttled.tail.pattern import expand, is_pattern, scan

#: Bytes at the end of each log that are looked at.
_END = 2 * 1024 * 1024
_SHOWN = 5  # names of other hosts


def check(sources: Sequence[str], facts: Facts) -> Iterator[Finding]:
    """Say what there is in each log.

    Args:
        sources: the logs that are followed.
        facts: with the names of this host, and of others whose lines count.
    """
    if not sources:
        hint = "see: postconf maillog_file, and the syslog configuration; or set [log] files"
        yield Finding("fault", "no log of Postfix is known", hint)
    elif JOURNAL in sources and not all(map(is_journal, sources)):
        hint = "lines that arrive by both count twice: set [log] journal = false, or files = []"
        yield Finding("fault", "log: files and the journal are both read", hint)
    for pattern in filter(is_pattern, sources):
        yield _pattern(pattern)
    sources = expand(sources)
    for source in sources:
        try:
            yield _journal(source) if is_journal(source) else _file(source, facts)
        except SourceError as error:
            yield Finding("fault", error.message, error.hint)
    yield from _twice(distinct([source for source in sources if not is_journal(source)]))


def _twice(paths: Sequence[str]) -> Iterator[Finding]:
    """Say which logs hold the same events, as rsyslog writes mail.log and syslog."""
    parse = Parser(local_zone(), time.time()).event
    known: dict[str, str] = {}
    found = set()
    for path in paths if len(paths) > 1 else ():
        with suppress(SourceError):  # reported by another check
            for line in _end(path):
                other = known.setdefault(line, path) if parse(line) else path
                if other != path and (other, path) not in found:
                    found.add((other, path))
                    what = f"log: {other} and {path} hold the same lines, which are counted twice"
                    yield Finding("fault", what, "leave one of them out of [log] files")


def _pattern(pattern: str) -> Finding:
    """Say which files a pattern means."""
    found = scan(pattern)
    if not found.files:
        hint = "is the path right? * stands for any characters but /"
        return Finding("warning", f"log: no file matches {pattern}", hint)
    names = ", ".join(match.path for match in found.files[:_SHOWN])
    more = len(found.files) - _SHOWN
    names += f" (and {more} more)" if more > 0 else ""
    above = f" of {found.total:,} that match" if found.total > len(found.files) else ""
    return Finding("ok", f"log: {pattern} matches {len(found.files)} files{above}: {names}")


def _journal(path: str) -> Finding:
    JournalTail(None, path=path).close()
    container = container_of(path)
    part = f", the container {container}" if container else ""
    return Finding("ok", f"log: systemd's journal{part}, which can be read")


def _file(path: str, facts: Facts) -> Finding:
    lines = _end(path)
    parser = Parser(local_zone(), time.time())
    hosts = Counter(event.host for line in lines if (event := parser.event(line)) is not None)
    found = f"log: {path}, {hosts.total()} events in its last {len(lines)} lines"
    if lines and not hosts:
        if any(map(parser.unknown, lines)):
            return Finding("warning", found, f"see: throttled parse --unknown {path}")
        if not any("postfix" in line for line in lines):
            hint = (
                "does Postfix log there? see: postconf maillog_file, and the syslog configuration"
            )
            return Finding("warning", f"{found}, none from Postfix", hint)
    others = _others(hosts, facts)
    if others:
        names = ", ".join(others[:_SHOWN])
        hint = f'if that is this host: [postfix] hosts = ["{others[0]}"]'
        return Finding(
            "fault", f"{found}, but all name other hosts, which are not counted: {names}", hint
        )
    return Finding("ok", found)


def _others(present: Iterable[str], facts: Facts) -> list[str]:
    """Return the hosts of a log if none of them counts, as the daemon decides."""
    hosts = Hosts(facts)
    for host in present:
        hosts.see(0, host)
    return [] if any(hosts.counts(0, host) for host in present) else list(present)


def _end(path: str) -> list[str]:
    """Return the last lines of a log."""
    log = open_log(path)
    if log is None:
        raise unreadable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    with closing(log):
        start = max(0, log.lag() - _END)
        try:
            lines = os.pread(log.fd, _END, start).decode("latin-1").split("\n")
        except OSError as error:
            raise unreadable(path, error) from error
    return lines[bool(start) : -1]  # not half a line at either end
