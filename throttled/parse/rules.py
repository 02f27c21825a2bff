"""The tables of lines: how an entry is written, and how a body is matched against a table. Pure.

An entry is a kind and the text as Postfix writes it, with `<field>` where it varies (`FIELDS`):

    Rule("lost_connection", "lost connection after <where> from <client>")

Matching starts at the left, stops where the entry ends, and never looks for a client elsewhere:
the rest of the line is the client's to write. A body is found by its first word, by the one after
`warning:`, or by the one after a queue id (`NOQUEUE:`, `3A5C01F2B:`). An entry that must have a
queue id begins with `<id>: `; every other entry but a warning may have one (Postfix >= 3.10).

One compiled expression without nested repetition per entry: time is linear in the line's length.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from throttled.model import Event, Kind, Reason
from throttled.parse.client import CLIENT, PEER, address
from throttled.parse.header import Origin

TEXT_LENGTH = 200  # characters of a line's rest that an event carries

#: What varies in a line, and how Postfix writes it.
FIELDS = {
    "client": CLIENT,
    "peer": PEER,
    # "DATA (1234 bytes)" and "DATA content" are stages of DATA (smtpd.c, SMTPD_AFTER_DATA).
    "where": r"(?P<where>[A-Za-z-]{1,40})(?: content)?(?: \([0-9]{1,20} bytes\))?",
    "service": r"(?P<service>[^\s\"]{1,100})",
    "endpoint": r"(?P<where>[^\s()]{1,200})",  # what master listens on
    "number": r"[0-9.]{1,20}",
    "method": r"method=[\w-]{1,40}",
    "test": r"(?P<where>tests (?:before|after) SMTP handshake)",
    "value": r"(?P<text>[^\s\"]{1,100})",
    # The client's last command, which postscreen writes as it came.
    "command": r"(?P<where>[A-Za-z]{0,20})",
    "rest": r"(?:: ?)?(?P<text>.*)",
    "text": r"(?P<text>.*)",
}
_GROUPS = ("name", "address", "port", "where", "service", "text")


class Detail(NamedTuple):
    """What the rest of a line says, beyond the fields of its entry."""

    text: str = ""
    code: int = 0
    reason: Reason = ""
    user: str = ""
    commands: dict[str, tuple[int, int]] | None = None


_NOTHING = Detail()


class Rule(NamedTuple):
    """One entry of a table."""

    kind: Kind
    line: str
    where: str = ""  # for an entry that says by itself where
    detail: Callable[[str], Detail] = Detail  # reads the field `<text>`


class _Compiled(NamedTuple):
    match: Callable[[str, int], re.Match[str] | None]
    groups: tuple[int, ...]  # numbers of _GROUPS; of a last, empty group for what is not there
    kind: Kind
    where: str
    detail: Callable[[str], Detail]


class Table:
    """The entries of one daemon, compiled."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._plain: dict[str, list[_Compiled]] = {}
        self._queued: dict[str, list[_Compiled]] = {}
        self._warnings: dict[str, list[_Compiled]] = {}
        for rule in rules:
            table, line = self._plain, rule.line
            if line.startswith("<id>: "):
                table, line = self._queued, line.removeprefix("<id>: ")
            elif line.startswith("warning: "):
                table, line = self._warnings, line.removeprefix("warning: ")
            word = line.partition(" ")[0]
            table.setdefault("" if "<" in word else word, []).append(_compile(line, rule))

    def read(self, body: str, origin: Origin, time: float) -> Event | None:
        """Return the event of a body, or None."""
        start = body.find(" ") + 1
        word = body[: start - 1]
        rules = self._plain.get(word)
        if rules is not None:
            start = 0
        elif word[-1:] != ":":
            return None
        else:
            table = self._warnings if word == "warning:" else self._queued
            second = body[start : body.find(" ", start)]
            rules = table.get(second)
            if rules is None and table is self._queued:
                rules = self._plain.get(second)
            if rules is None:
                rules = table.get("", [])
        for match, groups, kind, fixed, detail in rules:
            found = match(body, start)
            if found is None:
                continue
            name, written, port, where, service, text = found.group(*groups)
            client = address(written)
            if not client and written:
                return None
            text, code, reason, user, commands = detail(text) if text else _NOTHING
            return Event(
                kind,
                client,
                origin.process,
                origin.instance,
                origin.pid,
                time,
                origin.host,
                "" if name == "unknown" else name,
                1,
                fixed or where,
                code,
                reason,
                user,
                int(port) if port else 0,
                service,
                text[:TEXT_LENGTH],
                commands,
            )
        return None


def _compile(line: str, rule: Rule) -> _Compiled:
    parts = re.split(r"<(\w+)>", line)
    parts[::2] = [re.escape(text) for text in parts[::2]]
    parts[1::2] = [FIELDS[field] for field in parts[1::2]]
    pattern = re.compile("".join(parts) + "()", re.DOTALL)
    groups = tuple(pattern.groupindex.get(group, pattern.groups) for group in _GROUPS)
    return _Compiled(pattern.match, groups, rule.kind, rule.where, rule.detail)
