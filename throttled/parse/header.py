"""What stands before the text that Postfix wrote: time, host, tag and process id. Pure.

A line is `TIME HOST TAG[PID]: BODY`. `plain` reads the two forms that nearly all hosts have, RFC
3164 (`Aug 22 10:00:01`) and ISO 8601, and is quick. `nested` reads all others: what containers and
loggers put in front (`_FRONT`), other ways to write the time (`_STAMPS`), no time, and RFC 5424.
A new form is a row in one of these tables and lines in tests/samples/arrival.txt.

The tag's last component names the daemon, what is before it the instance:
`postfix/submission/smtpd` (postconf(5), syslog_name). An administrator can choose any instance.

Owns one bounded cache of origins, which evicts the least recently used.
"""

import re
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder

from throttled.parse.clock import Clock, iso_date


class Origin(NamedTuple):
    """Who wrote a line."""

    host: str
    instance: str  # "postfix", "postfix/submission"; "" for a bare tag
    process: str  # "smtpd"; CONTAINER
    pid: int  # 0 where none is written


#: The process of a line whose body is a line of its own: docker's syslog driver wrote it.
CONTAINER = "container"

Head = tuple[Origin, float, str]

_ORIGIN_LENGTH = 300  # characters: a host name has at most 255
_TIME_LENGTH = 41  # 2026-08-22T10:00:01.123456789+02:00 has 35

_NESTED = 3  # docker-compose around docker around a <PRI>

#: Stands before or in place of the host: FreeBSD's `<mail.info>`, and a severity
#: (%syslogseverity-text%: bokysan/docker-postfix). Busybox's `mail.info` stands behind it.
_SEVERITY = r"(?i:debug|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|alert|emerg|panic)"
_HOST = rf"(?:<\w+\.\w+> |{_SEVERITY} +)?(?:(\S*[^\s:]) )?(?:\w+\.\w+ )?"
_ORIGIN = re.compile(_HOST + r"(?:([^\s\[\]]*)/)?([\w-]+)\[([0-9]{1,10})")
#: Tags of docker's syslog driver: a container's id, or `docker/…` as its manual proposes. Not any
#: tag: what another program logs may be a client's words.
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}")
#: What each line has in it that `repetition` reads.
REPEATED = "last message repeated "
#: syslogd of the BSDs, sysklogd, busybox, in place of lines that are the same as the one before.
_REPETITION = re.compile(_HOST + rf"(?:syslogd: )?{REPEATED}([0-9]{{1,9}}) times?\r?")
_WITHOUT_PID = re.compile(_HOST + r"(rsyslogd|journal)(?:-[0-9]+)?: ")
_RFC5424 = re.compile(
    r"(?:<[0-9]{1,3}>)?1 (?:-|(\S{1,40})) (\S{1,255}) (\S{1,255}) ([0-9]{1,10}) \S{1,32} "
    r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: |\Z)(?:\xef\xbb\xbf)?"
)
#: What others put in front of a line. Group 1: the time at which they read it.
_FRONT = re.compile(
    r"<[0-9]{1,3}>"  # RFC 3164's priority
    r"|(?:\x1b\[[0-9;]*m)?[A-Za-z0-9][\w.-]{0,100} *\| ?(?:\x1b\[[0-9;]*m)? ?"  # docker-compose
    r"|([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9]{2}:?[0-9]{2})) "  # docker logs -t
    r"(?:std(?:out|err) [FP] )?"  # Kubernetes
)
_CLOCK = r"(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?"
_DAY = r"(?P<day>[A-Z][a-z]{2} [ 0-9]?[0-9])"
#: Other ways to write the time, each with a blank behind it.
_STAMPS = tuple(
    re.compile(rf"{form} ")
    for form in (
        rf"(?:[A-Z][a-z]{{2}} )?{_DAY} {_CLOCK}(?: (?P<year>[0-9]{{4}}))?",  # syslog-ng, ctime(3)
        rf"(?P<year>[0-9]{{4}}) {_DAY} {_CLOCK}",
        rf"{_DAY} (?P<year>[0-9]{{4}}) {_CLOCK}",
        r"(?P<unix>[0-9]{9,10})(?:\.(?P<fraction>[0-9]{1,9}))?",
    )
)


@lru_cache(maxsize=8_192)
def _origin(text: str) -> Origin | None:
    """Read `HOST TAG[PID` (the text before `]: `)."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    host, instance, process, pid = match.groups(default="")
    if instance == "docker" or (not instance and _CONTAINER_ID.fullmatch(process)):
        return Origin(intern(host), "", CONTAINER, int(pid))
    # Interned: a host has few of these, and whoever compares them compares identities.
    return Origin(intern(host), intern(instance), process, int(pid))


def any_form(line: str, clock: Clock, reference: float | None, time: float = 0.0) -> Head | None:
    """Read a line in any form: who, when (seconds since the epoch) and what, or None.

    Args:
        line: it.
        clock: reads its time.
        reference: for times without a year, see `clock`.
        time: of a line that names none, seconds since the epoch; 0.0 = unknown.
    """
    return plain(line, clock, reference) or nested(line, clock, reference, time)


def plain(line: str, clock: Clock, reference: float | None) -> Head | None:
    """Read `TIME HOST TAG[PID]: BODY`: who, when (seconds since the epoch) and what, or None."""
    time, start = _stamp(line, clock, reference)
    return None if time is None else _written(line, start, time)


def _written(line: str, start: int, time: float) -> Head | None:
    """Read `HOST TAG[PID]: BODY`, which begins at `start`."""
    end = line.find("]: ", start, start + _ORIGIN_LENGTH)
    origin = _origin(line[start:end])
    if origin is not None:
        return origin, time, line[end + 3 :]
    match = _WITHOUT_PID.match(line, start)
    if match is None:
        return None
    return Origin(match[1] or "", "", match[2], 0), time, line[match.end() :]


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


def nested(
    line: str, clock: Clock, reference: float | None, time: float | None = 0.0
) -> Head | None:
    """Read a line in any other form than those of `plain`.

    Args:
        line: it.
        clock: reads its time.
        reference: for times without a year, see `clock`.
        time: of a line that names none, seconds since the epoch; 0.0 = unknown.
    """
    for _ in range(_NESTED):
        match = _RFC5424.match(line)
        if match is not None:
            return _rfc5424(line, match, clock, reference)
        if line.startswith("{"):
            try:
                line, read = _docker(line)
            except (MsgspecError, UnicodeError, RecursionError):
                return None
        else:
            match = _FRONT.match(line)
            if match is None:
                break
            read = match[1]
            line = line[match.end() :]
        if read:
            time = clock.iso(read, reference)
        head = plain(line, clock, reference)
        if head is not None:
            return head
    return None if time is None else _otherwise(line, clock, reference, time)


def _otherwise(line: str, clock: Clock, reference: float | None, time: float) -> Head | None:
    """Read a line whose time is written in another way, or that has none."""
    for form in _STAMPS:
        match = form.match(line)
        if match is not None:
            at = _moment(match.groupdict(), clock, reference)
            return None if at is None else _written(line, match.end(), at)
    head = _written(line, 0, time)
    # Without a time a host would be any word.
    return head if head is not None and not head[0].host else None


def _moment(parts: dict[str, str | None], clock: Clock, reference: float | None) -> float | None:
    """Return the time that the parts of one of `_STAMPS` name, or None."""
    day, year = parts.get("day"), parts.get("year")
    if day is None:
        at: float | None = float(parts["unix"] or 0)
    elif year is None:
        at = clock.time(f"{day} {parts['clock']}", reference)
    else:
        at = clock.iso(f"{iso_date(year, day)} {parts['clock']}", reference)
    return None if at is None else at + float(f"0.{parts['fraction'] or 0}")


class _Docker(Struct):
    """A line of docker's json-file driver."""

    log: str
    time: str = ""  # when docker read it


_decode = Decoder(_Docker).decode


def _docker(line: str) -> tuple[str, str]:
    """Return what a container wrote, with each byte one character again, and when it was read."""
    found = _decode(line.encode("latin-1"))
    return found.log.encode("utf-8", "replace").decode("latin-1").rstrip("\n"), found.time


def _rfc5424(line: str, match: re.Match[str], clock: Clock, reference: float | None) -> Head | None:
    time, host, tag, pid = match.groups()
    origin = _origin(f"{host} {tag}[{pid}")
    at = clock.iso(time, reference) if time else 0.0
    if origin is None or at is None:
        return None
    return origin, at, line[match.end() :]
