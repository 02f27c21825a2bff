"""What stands before the text that Postfix wrote: time, host, tag and process id. Pure.

A line is `TIME HOST TAG[PID]: BODY`. TIME is RFC 3164 (`Aug 22 10:00:01`), ISO 8601 with or
without fraction and zone, or `2026-08-22 10:00:01`. RFC 5424, docker's json-file and what docker,
docker-compose, Kubernetes or a `<PRI>` put in front are understood too; FreeBSD's `<mail.info>` and
busybox's `mail.info` are passed over.

The tag's last component names the daemon, what is before it the instance:
`postfix/submission/smtpd` (postconf(5), syslog_name). An administrator can choose any instance.

Owns one bounded cache of origins, which forgets the least recently used.
"""

import re
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder

from throttled.parse.clock import Clock


class Origin(NamedTuple):
    """Who wrote a line."""

    host: str
    instance: str  # "postfix", "postfix/submission"; "" for a bare tag
    process: str  # "smtpd"
    pid: int  # 0 where none is written


_ORIGIN_LENGTH = 300  # characters: a host name has at most 255
_TIME_LENGTH = 41  # 2026-08-22T10:00:01.123456789+02:00 has 35

_NESTED = 3  # docker-compose around docker around a <PRI>

_HOST = r"(?:<\w+\.\w+> )?(?:(\S*[^\s:]) )?(?:\w+\.\w+ )?"
_ORIGIN = re.compile(_HOST + r"(?:([^\s\[\]]*)/)?([\w-]+)\[([0-9]{1,10})")
#: syslogd of the BSDs, sysklogd, busybox, in place of lines that are the same as the one before.
_REPETITION = re.compile(_HOST + r"(?:syslogd: )?last message repeated ([0-9]{1,9}) times?\r?")
_WITHOUT_PID = re.compile(_HOST + r"(rsyslogd|journal)(?:-[0-9]+)?: ")
_RFC5424 = re.compile(
    r"(?:<[0-9]{1,3}>)?1 (?:-|(\S{1,40})) (\S{1,255}) (\S{1,255}) ([0-9]{1,10}) \S{1,32} "
    r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: |\Z)(?:\xef\xbb\xbf)?"
)
_IN_FRONT = re.compile(
    r"<[0-9]{1,3}>"  # RFC 3164's priority
    r"|(?:\x1b\[[0-9;]*m)?[A-Za-z0-9][\w.-]{0,100} *\| ?(?:\x1b\[[0-9;]*m)? ?"  # docker-compose
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9]{2}:?[0-9]{2}) "  # docker logs -t
    r"(?:std(?:out|err) [FP] )?"  # Kubernetes
)


@lru_cache(maxsize=8_192)
def _origin(text: str) -> Origin | None:
    """Read `HOST TAG[PID` (the text before `]: `)."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    host, instance, process, pid = match.groups(default="")
    # Interned: a host has few of these, and whoever compares them compares identities.
    return Origin(intern(host), intern(instance), process, int(pid))


def plain(line: str, clock: Clock, reference: float | None) -> tuple[Origin, float, str] | None:
    """Read `TIME HOST TAG[PID]: BODY`: who, when (seconds since the epoch) and what, or None."""
    time, start = _stamp(line, clock, reference)
    if time is None:
        return None
    end = line.find("]: ", start, start + _ORIGIN_LENGTH)
    origin = _origin(line[start:end])
    if origin is not None:
        body = line[end + 3 :]
    else:
        match = _WITHOUT_PID.match(line, start)
        if match is None:
            return None
        origin = Origin(match[1] or "", "", match[2], 0)
        body = line[match.end() :]
    return origin, time, body


def repetition(line: str, clock: Clock, reference: float | None) -> tuple[str, float, int] | None:
    """Read `TIME HOST last message repeated N times`: host, time and N, or None."""
    time, start = _stamp(line, clock, reference)
    match = None if time is None else _REPETITION.fullmatch(line, start)
    if time is None or match is None:
        return None
    return match[1] or "", time, int(match[2])


def _stamp(line: str, clock: Clock, reference: float | None) -> tuple[float | None, int]:
    """Read the time that a line begins with; and where what follows it begins."""
    if line[10:11] == "T":  # 2026-08-22T10:00:01+02:00
        start = line.find(" ", 19, _TIME_LENGTH) + 1
        return clock.iso(line[: start - 1], reference), start
    if line[15:16] == " ":  # Aug 22 10:00:01
        start = 16
    elif line[14:15] == " ":  # Aug 2 10:00:01
        start = 15
    else:  # 2026-08-22 10:00:01
        start = line.find(" ", 19, _TIME_LENGTH) + 1
    return clock.time(line[: start - 1], reference), start


def nested(line: str, clock: Clock, reference: float | None) -> tuple[Origin, float, str] | None:
    """Read a line as `plain` does, behind what others put in front, and RFC 5424."""
    for _ in range(_NESTED):
        match = _RFC5424.match(line)
        if match is not None:
            return _rfc5424(line, match, clock, reference)
        if line.startswith("{"):
            try:
                line = _docker(line)
            except (MsgspecError, UnicodeError, RecursionError):
                return None
        else:
            match = _IN_FRONT.match(line)
            if match is None:
                return None
            line = line[match.end() :]
        head = plain(line, clock, reference)
        if head is not None:
            return head
    return None


class _Docker(Struct):
    """A line of docker's json-file driver (its `time` is when docker read the line)."""

    log: str


_decode = Decoder(_Docker).decode


def _docker(line: str) -> str:
    """Return what a container wrote, with each byte one character again."""
    text = _decode(line.encode("latin-1")).log
    return text.encode("utf-8", "replace").decode("latin-1").rstrip("\n")


def _rfc5424(
    line: str, match: re.Match[str], clock: Clock, reference: float | None
) -> tuple[Origin, float, str] | None:
    time, host, tag, pid = match.groups()
    origin = _origin(f"{host} {tag}[{pid}")
    at = clock.iso(time, reference) if time else 0.0
    if origin is None or at is None:
        return None
    return origin, at, line[match.end() :]
