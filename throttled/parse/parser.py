"""From a line to an event: the header, then the table of the daemon that wrote it. Pure.

A line that is not understood is no event; no text raises. A `Parser` owns bounded caches of times
(`clock.py`) and of what stood in front of the latest bodies. The caches of `header.py`, `client.py`
and `smtpd.py` are bounded too and shared by all parsers: they hold nothing but what follows from
their keys.
"""

import re
from collections.abc import Callable
from datetime import tzinfo

from msgspec.structs import replace

from throttled.model import Event
from throttled.parse import anvil, logger, master, message, postscreen, smtpd
from throttled.parse.clock import Clock
from throttled.parse.header import CONTAINER, Origin, any_form, repetition

_Reader = Callable[[str, Origin, float], Event | None]

_HEADS = 1_024  # remembered at most


def _cut(body: str, origin: Origin, time: float) -> Event | None:
    """Read a line of a tag that was cut at its slash: rsyslog's RSYSLOG_SyslogProtocol23Format.

    Which daemon wrote it shows only in the text: these have no line in common, and no other daemon
    of Postfix writes one of theirs.
    """
    for process in ("smtpd", "postscreen", "anvil", "master"):
        event = _READERS[process](body, origin._replace(instance="postfix", process=process), time)
        if event is not None:
            return event
    return message.read(body, origin._replace(instance="postfix", process="queue"), time)


#: The last component of the tag to what reads the lines. Those of `smtp`, the client, are about
#: other people's servers: of them only what became of a message is read, never a client.
_READERS: dict[str, _Reader] = {
    "smtpd": smtpd.TABLE.read,
    "postscreen": postscreen.TABLE.read,
    "anvil": anvil.read,
    "master": master.TABLE.read,
    "systemd-journald": logger.read,
    "systemd-journal": logger.read,  # as the kernel cuts the name
    "journal": logger.read,
    "rsyslogd": logger.read,
    "postfix": _cut,
    **dict.fromkeys(message.PROCESSES, message.read),
}
#: What loggers wrap a body in: rsyslog's $RepeatedMsgReduction (Ubuntu's default), a blank
#: (%syslogtag% %msg%), Solaris.
_WRAPPED = re.compile(
    r" *message repeated ([0-9]{1,9}) times: \[ ?(.*)\]\Z|(?: +|\[ID [0-9]{1,10} \w+\.\w+\] )(.*)",
    re.DOTALL,
)

#: For `unknown` only, which decides nothing: the text before the first client of a line.
_NAMES = re.compile(r"(?P<front>[^\[]{0,200} from |warning: |)[\w.-]*\[[0-9A-Fa-f.:]{3,45}\]")
#: Looks like the tag of a line of Postfix, wherever it stands.
_TAG = re.compile(r"^.{0,200}?\b(?:smtpd|postscreen|anvil)\b")
_NUMBER = re.compile(r"[0-9A-Fa-f]*[0-9][0-9A-Fa-f.:]*")
_OFFENCE = re.compile(
    r"warning|reject|denied|error|limit|refus|too many|fail|abort|timeout|lost|illegal|improper"
    r"|invalid|malformed|blocked|bare|unexpected",
    re.IGNORECASE,
)
#: What postscreen writes of its tests.
_LOUD = re.compile(r"[A-Z][A-Z -]{2,}(?: [0-9]\S*)* from ")
#: Lines that sound like an offence and are none, or repeat what another line says.
_HARMLESS = re.compile(
    r"warning: (?:\S+: request longer than|\w+: BDAT request from|Wrapper-mode request dropped)"
    r"|\w+: (?!reject:|milter-reject:)[a-z_-]+: "  # what an access table did instead: warn, hold, …
    r"|(?:Anonymous|Trusted|Untrusted|Verified) TLS connection established"
    r"|(?:warning: )?TLS SNI |setting up TLS|(?:DATA|BDAT) without valid RCPT"
)


class Parser:
    """Reads the lines of one log.

    Args:
        zone: of times that name none.
        reference: seconds since the epoch; a line without year gets the latest one that puts it
            no later than a day after this.
    """

    def __init__(self, zone: tzinfo, reference: float) -> None:
        self._zone = zone
        self._reference = reference
        self._clock = Clock(zone, reference)
        #: What stood before the bodies of the latest lines, which a session writes within a second.
        self._heads: dict[str, tuple[_Reader | None, Origin, float]] = {}
        self._asked: float | None = None  # the reference for which these hold
        self._last: Event | None = None  # of the line before

    def another(self) -> "Parser":
        """Return a parser for another log that is like this one."""
        return Parser(self._zone, self._reference)

    def event(self, line: str, reference: float | None = None) -> Event | None:
        """Return the event of a line, or None.

        A line that says only how often the one before was repeated is the event of that one.

        Args:
            line: latin-1 decoded, without newline; may end with a carriage return.
            reference: in place of the one given at first; what is now, in a live tail.
        """
        front, _, body = line.partition("]: ")
        known = self._heads.get(front)
        if known is None or reference is not self._asked:
            head = any_form(line, self._clock, reference)
            if head is None:
                return self._repeated(line, reference)
            origin, time, text = head
            read = _READERS.get(origin.process)
            # With fractions of a second each line has another one: nothing to remember.
            if text == body and line[10:11] != "T":
                if reference is not self._asked or len(self._heads) >= _HEADS:
                    self._heads.clear()
                    self._asked = reference
                self._heads[front] = read, origin, time
            body = text
        else:
            read, origin, time = known
        if read is None:
            self._last = None
            if origin.process is not CONTAINER:
                return None
            return self._contained(body, time, reference)
        body = body.rstrip("\r")
        event = read(body, origin, time)
        if event is None and (match := _WRAPPED.match(body)):
            times, repeated, bare = match.groups()
            event = read(repeated if bare is None else bare, origin, time)
            if event is not None and times:
                event = replace(event, count=event.count * int(times))
        self._last = event
        return event

    def _contained(self, line: str, time: float, reference: float | None) -> Event | None:
        """Return the event of a line that docker's syslog driver put its own header before."""
        head = any_form(line.lstrip(" "), self._clock, reference, time)
        read = None if head is None else _READERS.get(head[0].process)
        return None if head is None or read is None else read(head[2].rstrip("\r"), *head[:2])

    def _repeated(self, line: str, reference: float | None) -> Event | None:
        """Return the event of the line before once more, if that is what a line says."""
        last, self._last = self._last, None
        found = last and repetition(line, self._clock, reference)
        if not last or not found or found[0] != last.host:
            return None
        self._last = last  # it may be repeated
        _, time, count = found
        return replace(last, time=time, count=count * last.count)

    def unknown(self, line: str) -> str:
        """Return the shape of a line that looks like an offence of a client and is not understood.

        Also of a line whose header is not understood. For maintainers who search for missing rules;
        no decision depends on it. Lines that differ in numbers only have one shape; "": understood.
        """
        head = any_form(line, self._clock, None)
        if head is not None and head[0].process is CONTAINER:
            line = head[2].lstrip(" ")
            head = any_form(line, self._clock, None, head[1])
        if head is None:
            tag = _TAG.search(line)
            return "" if tag is None else _NUMBER.sub("0", line[: tag.end()])
        origin, _, body = head
        if self.event(line) is not None or origin.process not in {"smtpd", "postscreen", "anvil"}:
            return ""
        if match := _WRAPPED.match(body):
            body = match[2] or match[3] or ""
        names = _NAMES.match(body)
        if names is None or _HARMLESS.match(body):
            return ""
        front = names["front"]
        loud = _OFFENCE.search(front) or _LOUD.match(front)
        return f"{origin.process}: {_NUMBER.sub('0', front)}" if loud else ""
