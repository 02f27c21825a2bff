"""`throttled check`."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path

import click

from throttled.cli import output
from throttled.cli.daemon import ask, config, facts
from throttled.cli.options import Command, json_option
from throttled.config.load import DEFAULT_PATH
from throttled.config.schema import Config
from throttled.control.protocol import Done, Ping
from throttled.errors import (
    ConfigError,
    SourceError,
    StoreError,
    ThrottledError,
)
from throttled.model import JOURNAL, SCOPES, Facts, Problem
from throttled.parse.parser import Parser
from throttled.store.store import Store
from throttled.tail.archive import read_log
from throttled.tail.journal import JournalTail
from throttled.zone import local_zone

#: Pieces of 256 KiB of each log that are read, to see whether its lines are understood.
_PIECES = 8


@click.command(
    cls=Command,
    examples=("throttled check", "throttled --config ./new.toml check", "throttled check --json"),
)
@json_option
def command(*, as_json: bool) -> int:
    """Check the configuration, Postfix, the logs, the store, the firewall and the daemon.

    Says what works, what does not, and what to do. Changes nothing. The exit code is 1 if
    there is a fault.
    """
    problems = list(_check())
    if as_json:
        output.print_json({"problems": problems})
    else:
        for problem in problems:
            click.echo(f"{problem.state:<8} {output.printable(problem.what)}")
            if problem.hint:
                click.echo(f"{'':<8} {output.printable(problem.hint)}")
    return int(any(problem.state == "fault" for problem in problems))


def _check() -> Iterator[Problem]:
    path = click.get_current_context().find_root().obj[0] or DEFAULT_PATH
    try:
        settings = config()
        there = path if Path(path).exists() else f"{path} does not exist: all defaults"
        yield Problem("ok", f"configuration: {there}")
    except ConfigError as error:
        yield _fault(error)
        settings = Config()
    known = facts(settings)
    yield from _postfix(known)
    yield from _logs(settings.logs(known), known.hostnames)
    yield from _store(settings.store.path)
    yield from _firewall(settings)
    yield _daemon()


def _fault(error: ThrottledError) -> Problem:
    return Problem("fault", error.message, error.hint)


def _postfix(known: Facts) -> Iterator[Problem]:
    for scope in SCOPES:
        ports = ", ".join(map(str, known.ports(scope)))
        yield Problem("ok", f"Postfix, {scope}: " + (f"port {ports}" if ports else "no service"))
    if not known.services:
        hint = "see: postconf -M; or set [firewall] ports"
        yield Problem("fault", "Postfix has no SMTP service on the network", hint)
    for warning in known.warnings:
        yield Problem("warning", warning)


def _logs(files: Sequence[str], ours: AbstractSet[str]) -> Iterator[Problem]:
    if not files:
        hint = "see: postconf maillog_file, and the syslog configuration; or set [log] files"
        yield Problem("fault", "no log of Postfix is known", hint)
    elif JOURNAL in files and len(files) > 1:
        hint = "lines that arrive by both count twice: set [log] journal = false, or files = []"
        yield Problem("fault", "log: files and the journal are both read", hint)
    for path in files:
        if path == JOURNAL:
            yield _journal()
            continue
        try:
            lines, hosts = _read(path)
        except SourceError as error:
            yield _fault(error)
            continue
        told = f"log: {path}, {hosts.total()} events in its first {lines} lines"
        if lines and not hosts:
            hint = "does Postfix log there? see: throttled parse --unknown"
            yield Problem("warning", told, hint)
        elif hosts and ours and not hosts.keys() & {*ours, ""}:
            name = next(iter(hosts))
            hint = f'if they are to count: [postfix] hosts = ["{name}"]'
            yield Problem("warning", f"{told}, but of other hosts", hint)
        else:
            yield Problem("ok", told)


def _journal() -> Problem:
    try:
        JournalTail(None).close()
    except SourceError as error:
        return _fault(error)
    return Problem("ok", "log: systemd's journal, which can be read")


def _read(path: str) -> tuple[int, Counter[str]]:
    """Return how many lines were looked at, from the start of a log, and the events by host."""
    parse = Parser(local_zone(), time.time()).event
    count = 0
    hosts: Counter[str] = Counter()
    for lines, _ in islice(read_log(path), _PIECES):
        count += len(lines)
        hosts.update(event.host for line in lines if (event := parse(line)) is not None)
    return count, hosts


def _store(path: str) -> Iterator[Problem]:
    if not Path(path).exists():
        directory = Path(path).parent
        if directory.is_dir():
            yield Problem("ok", f"store: {path} will be made")
        else:
            hint = f"make it: install -d -m 0750 {directory}; systemd makes the default one"
            yield Problem("warning", f"store: the directory {directory} does not exist", hint)
        return
    try:
        store = Store.open(path, readonly=True)
    except StoreError as error:
        yield _fault(error)
        return
    count = sum(store.counts(time.time()).values())
    store.close()
    yield Problem("ok", f"store: {path}, {count} throttles and bans in force")


def _firewall(settings: Config) -> Iterator[Problem]:
    from throttled.enforce.choose import choose  # noqa: PLC0415 - libraries that --help needs not

    firewall = settings.firewall
    name = "dryrun" if settings.mode == "observe" else firewall.backend
    backend = choose(name, firewall.xdp_mode)
    if name == "auto" and backend.name != "nftables":
        for problem in choose("nftables").check():
            told = f"firewall nftables: {problem.what}; auto takes {backend.name}"
            yield Problem("warning", told, problem.hint)
    for problem in backend.check():
        yield Problem(problem.state, f"firewall {backend.name}: {problem.what}", problem.hint)


def _daemon() -> Problem:
    try:
        ask(Ping(), Done)
    except ThrottledError as error:
        return Problem("warning", error.message, error.hint)
    return Problem("ok", "the daemon is running")
