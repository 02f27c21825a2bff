"""The tables of lines: how an entry is written, and how a body is matched against a table. Pure.

An entry is a kind and the text as Postfix writes it, with `<field>` where it varies (`FIELDS`):

    Rule("lost_connection", "lost connection after <where> from <client>")

Matching starts at the left, stops where the entry ends, and never searches for a client elsewhere:
the text after the client can be written by the client. A queue id or `NOQUEUE: ` may precede
every entry that is no warning (Postfix >= 3.10); one that must have it begins with `<id>: `.

Nearly every line is `WHAT from CLIENT REST`, and WHAT, which Postfix wrote, takes few values: so
WHAT is matched once and remembered, and the same goes for CLIENT. No expression repeats a
repetition: time is linear in the length of the line.

A `Table` owns one bounded cache, of the WHAT it has seen.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from throttled.model import Event, Kind, Message, Reason
from throttled.parse.client import Client, client
from throttled.parse.header import Origin

TEXT_LENGTH = 200  # characters of a client's words that an event carries

#: What varies in a line, and how Postfix writes it.
FIELDS = {
    "client": r"(?P<client>[^\s\[]{0,255}\[[^\s\]]{0,45}\](?::[0-9]{1,5})?)",  # see client.py
    "id": "(?:NOQUEUE|[0-9A-F]{5,20}|[0-9A-Za-z]{10,30})",  # the long form needs no hex
    # "DATA (1234 bytes)" and "DATA content" are stages of DATA (smtpd.c, SMTPD_AFTER_DATA); older
    # versions write "DATA (approximately 1234 bytes)".
    "where": r"(?P<where>[A-Za-z-]{1,40})(?: content)?"
    r"(?: \((?:approximately )?[0-9]{1,20} bytes\))?",
    "service": r"(?P<service>[^\s\"]{1,100})",
    "endpoint": r"(?P<where>[^\s()]{1,200})",  # what master listens on
    "number": r"[0-9.]{1,20}",
    "value": r"(?P<text>[^\s\"]{1,100})",
    "method": r"method=[\w-]{1,40}",
    "test": r"(?P<where>tests (?:before|after) SMTP handshake)",
    # The client's last command, which postscreen writes as it came.
    "command": r"(?P<where>[A-Za-z]{0,20})[: ]{0,2}",
    "text": r"(?P<text>.*)",
    "said": r"(?:: ?(?P<text>.*))?",  # some loggers cut blanks at the end
}
_OPTIONAL_ID = f"(?:{FIELDS['id']}: )?"


class Detail(Struct, frozen=True, gc=False):
    """What a part of a line says."""

    text: str = ""
    where: str = ""
    service: str = ""
    code: int = 0
    reason: Reason = ""
    user: str = ""
    commands: dict[str, tuple[int, int]] | None = None
    null_sender: bool = False
    message: Message | None = None


#: Reads a part of a line; None where it is not what it should be.
Reader = Callable[[str], Detail | None]


class Rule(NamedTuple):
    """One entry of a table."""

    kind: Kind
    line: str
    where: str = ""  # for an entry that says by itself where
    detail: Reader = Detail  # reads `<text>`, which then is all that follows the client


#: A line as far as it is matched: kind, where, text, client, detail.
Matched = tuple[Kind, str, str, Client | None, Detail | None]


class _Pattern(NamedTuple):
    """The notation of an entry, compiled."""

    expression: re.Pattern[str]
    #: Numbers of the groups client, where, service and text; of an empty one for those not there.
    groups: tuple[int, int, int, int]


class _Other(NamedTuple):
    """An entry of another form than `WHAT from CLIENT REST`."""

    match: Callable[[str], re.Match[str] | None]
    groups: tuple[int, int, int, int]
    kind: Kind
    where: str
    read: Reader | None  # of the text; None where the text is taken as it is


_NOTHING = Detail()
NOBODY = Client("", "", 0)


class Table:
    """The entries of one daemon, compiled."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._from: list[tuple[_Pattern, Reader, Rule]] = []
        #: Entries of another form by their first word; "" stands for a queue id.
        self._others: dict[str, list[_Other]] = {}
        for rule in rules:
            what, sender, rest = rule.line.partition(" from <client>")
            if sender:
                front = "" if what.startswith(("warning: ", "<id>: ")) else _OPTIONAL_ID
                self._from.append((_compile(what, front), _rest(rest, rule.detail), rule))
            else:
                word = what.partition(" ")[0]
                expression, groups = _compile(what)
                read = None if rule.detail is Detail else rule.detail
                self._others.setdefault("" if word == "<id>:" else word, []).append(
                    _Other(expression.match, groups, rule.kind, rule.where, read)
                )
        self._known = lru_cache(maxsize=1_024)(self._what)

    def read(self, body: str, origin: Origin, time: float) -> Event | None:
        """Return the event of a body, or None."""
        what, _, rest = body.partition(" from ")
        known = self._known(what) if rest else None
        if known is not None:
            kind, where, text, read_rest = known
            peer, _, rest = rest.partition(" ")
            found = client(peer)
            detail = read_rest(rest) if rest else _NOTHING
        else:
            kind, where, text, found, detail = self.other(body)
        if found is None or detail is None:
            return None
        host, instance, process, pid = origin
        address, name, port = found
        if detail is _NOTHING:  # two of three lines in a flood
            return Event(
                kind,
                address,
                process,
                instance,
                pid,
                time,
                host,
                name,
                1,
                where,
                0,
                "",
                "",
                port,
                "",
                text,
            )
        return Event(
            kind,
            address,
            process,
            instance,
            pid,
            time,
            host,
            name,
            1,
            where or detail.where,
            detail.code,
            detail.reason,
            detail.user[:TEXT_LENGTH],
            port,
            detail.service,
            (detail.text or text)[:TEXT_LENGTH],
            detail.commands,
            detail.null_sender,
            detail.message,
        )

    def _what(self, what: str) -> tuple[Kind, str, str, Reader] | None:
        """Find the entry of a line by what stands before ` from CLIENT`."""
        for (expression, groups), rest, rule in self._from:
            match = expression.fullmatch(what)
            if match is not None:
                _, where, _, text = match.group(*groups)
                return rule.kind, rule.where or where, text[:TEXT_LENGTH], rest
        return None

    def other(self, body: str) -> Matched:
        """Match a line of another form."""
        word = body.partition(" ")[0]
        for match, groups, kind, where, read in (
            self._others.get(word) or self._others.get("") or ()
        ):
            found = match(body)
            if found is not None:
                peer, stage, service, text = found.group(*groups)
                detail = Detail(text, stage, service) if read is None else read(text)
                return kind, where, "", client(peer) if peer else NOBODY, detail
        return UNMATCHED


UNMATCHED: Matched = ("connect", "", "", None, None)


def _compile(line: str, optional: str = "") -> _Pattern:
    """Turn the notation of an entry into an expression."""
    parts = re.split(r"<(\w+)>", line)
    parts[::2] = [re.escape(text) for text in parts[::2]]
    parts[1::2] = [FIELDS[field] for field in parts[1::2]]
    expression = re.compile(optional + "".join(parts) + "()", re.DOTALL)
    number = expression.groupindex.get
    groups = ("client", "where", "service", "text")
    client_, where, service, text = (number(group, expression.groups) for group in groups)
    return _Pattern(expression, (client_, where, service, text))


def _rest(line: str, detail: Reader) -> Reader:
    """Return what reads the rest of a line `WHAT from CLIENT REST`."""
    line = line.lstrip(": ")
    if line in {"", "<text>"}:
        return detail
    expression, groups = _compile(line)

    def read(rest: str) -> Detail | None:
        match = expression.match(rest)
        if match is None:
            return None
        _, where, service, text = match.group(*groups)
        return Detail(text or "", where, service)

    return read
