"""Whether Postfix's lines arrive where they are looked for: a connection of our own is made to see.

It connects to a port that Postfix serves at one of this host's own addresses, reads the greeting,
says QUIT, and waits for the line about it. Own addresses are never acted upon.

If that line names another host, a second visit proves that it is this one: it says a word of its
own as a command that Postfix logs (smtpd_forbidden_commands), as other hosts in the same log have
connections from 127.0.0.1 too.
"""

import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress

from msgspec import Struct

from throttled import address
from throttled.decide.hosts import this_one
from throttled.errors import SourceError, ThrottledError
from throttled.facts import Facts
from throttled.host.zone import local_zone
from throttled.log_paths import JOURNAL, is_journal
from throttled.model import Event, Finding
from throttled.parse.parser import Parser
from throttled.tail.file import FileTail
from throttled.tail.journal import JournalTail

#: Seconds for the greeting, and for the line to arrive. Both take milliseconds, but not in a flood:
#: the greeting waits for a free smtpd, and a busy machine once took 3 s to log it.
WAIT = 15.0
_CONNECT = 15.0
#: A line's own time may be a whole second old.
_CLOCK = 5.0
#: What is taken for the name of a host.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")


class _Arrived(Struct):
    source: str
    after: float  # seconds
    event: Event


def check(
    facts: Facts,
    sources: Sequence[str],
    wait: float = WAIT,
    learn: Callable[[str], str] | None = None,
) -> Iterator[Finding]:
    """Connect to Postfix and say where the line about it arrived.

    Args:
        facts: its services, this host's addresses and names.
        sources: the logs that are followed.
        wait: seconds for the line to arrive.
        learn: records another name of this host; returns what came of it, or raises ThrottledError.
    """
    if not facts.services:
        return
    # Port 25 speaks first, as 587 does; 465 waits for TLS.
    port = min(facts.services, key=lambda service: service.scope).port
    with ExitStack() as opened:
        tails = _open(opened, sources)
        if not tails.keys() & set(sources):
            return  # that they cannot be read is reported elsewhere
        begin = time.time()
        client = _visit(facts, port, "QUIT")
        if not client:
            what = f"nothing answers on port {port} of this host: is Postfix running?"
            yield Finding("warning", f"lines arriving: {what}", "see: postfix status")
            return
        arrived = _await(tails, sources, client, begin + wait)
        yield from _arrival(arrived, sources, wait)
        if (
            arrived is None
            or arrived.source not in sources
            or is_journal(arrived.source)
            or not learn
        ):
            return
        if this_one(arrived.event.host, facts):
            return
        word = f"throttled-check-{os.urandom(8).hex()}"
        client = _visit(facts, port, f"CONNECT {word}")
        proof = (
            _await(tails, [arrived.source], client, time.time() + wait, word) if client else None
        )
    if proof is None or not this_one(proof.event.host, facts):
        yield _learnt(arrived.source, arrived.event.host, proof, learn)


def _learnt(source: str, host: str, proof: _Arrived | None, learn: Callable[[str], str]) -> Finding:
    """Record a name that was proved to be this host's."""
    if proof is None or _HOST.fullmatch(proof.event.host) is None:
        what = f"host name: lines in {source} name {host}; whether that is this host is not known"
        return Finding("fault", what, f'if it is: [postfix] hosts = ["{host}"]')
    name = proof.event.host
    try:
        answer = learn(name)
    except ThrottledError as error:
        what = f"host name: this host is {name} in {source}, which is not recorded: {error.message}"
        return Finding("fault", what, f'[postfix] hosts = ["{name}"]')
    return Finding("ok", f"host name: this host is {name} in {source}; recorded: {answer}")


def _arrival(arrived: _Arrived | None, sources: Sequence[str], wait: float) -> Iterator[Finding]:
    if arrived is None:
        what = f"lines arriving: no line about the test connection within {wait:g} s"
        hint = (
            "does it log elsewhere (postconf maillog_file syslog_facility)? Is the logger "
            "running, may it write there, has it lost lines? See: journalctl -t postfix/smtpd"
        )
        yield Finding("fault", what, hint)
        return
    if arrived.source not in sources:
        what = f"lines arriving: in the journal, but not in {', '.join(sources)}"
        hint = "set [log] journal = true and files = []; or let rsyslog write the file"
        yield Finding("fault", what, hint)
        return
    milliseconds = arrived.after * 1000
    yield Finding("ok", f"lines arriving: in {arrived.source}, after {milliseconds:.0f} ms")
    off = arrived.event.time - time.time() if arrived.event.time else 0.0
    if abs(off) > _CLOCK:
        what = f"clock: the line's own time is {off:+.0f} s off"
        hint = "the logger's time zone differs from this host's (timedatectl), or its clock"
        yield Finding("fault", what, hint)
    else:
        yield Finding("ok", "clock: the line's own time is right")


def _open(opened: ExitStack, sources: Sequence[str]) -> dict[str, FileTail | JournalTail]:
    """Return tails that begin at the end: of the sources, and of the journal in any case."""
    tails: dict[str, FileTail | JournalTail] = {}
    for source in (*sources, JOURNAL):
        try:
            tail = JournalTail(None, path=source) if is_journal(source) else FileTail(source, None)
            opened.enter_context(closing(tail))
            while tail.read():
                pass
        except SourceError:
            continue
        tails[source] = tail
    return tails


def _visit(facts: Facts, port: int, say: str) -> str:
    """Connect to Postfix, say a line, leave; return our address in its eyes, "" for no answer."""
    for host in ("127.0.0.1", "::1", *sorted(facts.own)):
        try:
            with socket.create_connection((host, port), _CONNECT) as connection:
                with suppress(OSError):  # postscreen may take its time, a full smtpd has none
                    connection.recv(512)
                    connection.sendall(f"{say}\r\n".encode())
                    connection.recv(512)
                return address.canonical(connection.getsockname()[0])
        except (OSError, ValueError):
            continue
    return ""


def _await(
    tails: dict[str, FileTail | JournalTail],
    sources: Sequence[str],
    client: str,
    until: float,
    word: str = "",
) -> _Arrived | None:
    """Return where a line about the client arrived; elsewhere only if in none of the sources.

    Args:
        tails: of the sources, and of the journal.
        sources: the logs that are followed.
        client: our address.
        until: wall clock.
        word: which the line has to hold where the client's own text is.
    """
    parser = Parser(local_zone(), until)
    begin = time.time()
    other = None
    while (left := until - time.time()) > 0:
        for source, tail in tails.items():
            try:
                batch = tail.read()
            except SourceError:
                continue
            for line in batch.lines if batch else ():
                event = parser.event(line)
                if event is not None and event.client == client and word in event.text:
                    arrived = _Arrived(source, time.time() - begin, event)
                    if source in sources:
                        return arrived
                    other = other or arrived
        select.select([tail.fileno() for tail in tails.values()], [], [], min(left, 0.05))
    return other
