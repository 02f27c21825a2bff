"""What one SMTP session has been blamed for, so that nothing is counted twice. Pure.

A session is known by its log source, host, process and pid (smtpd serves one client at a time) or
by the client's address and port (one postscreen serves many). It is made by the first line that
needs it and ends at `disconnect` or at the next `connect` of the same process; the engine owns it.
"""

import re

from msgspec import Struct

from throttled.address import version
from throttled.model import Event, Reason, Scope
from throttled.settings import Points

_NUMBER = re.compile(r"[0-9]+")

_REASON_POINTS = {
    "relay": "relay",
    "unknown_user": "unknown_user",
    "dnsbl": "dnsbl",
    "syntax": "syntax",
    "access": "access",
    "protocol": "pipelining",
}

_KIND_POINTS = {
    "pipelining": "pipelining",
    "non_smtp_command": "non_smtp_command",
    "bad_address": "syntax",
    "bare_newline": "bare_newline",
    "pregreet": "pregreet",
    "dnsbl": "dnsbl",
    "command_limit": "command_limit",
    "denylisted": "access",
    "rate_limit": "rate_limit",
    "concurrency_limit": "rate_limit",
    "too_many_errors": "too_many_errors",
}

#: Refusals that say nothing of the client.
_HARMLESS: frozenset[Reason] = frozenset({"temporary", "content", "milter"})
#: Stages whose refusal makes the commands fail that come after it, which no line reports:
#: "503 5.7.0 access denied", "send HELO/EHLO first", "need MAIL command" (smtpd.c).
_DENIES = frozenset({"CONNECT", "HELO", "EHLO", "MAIL"})
#: Stages whose failures are not among those that `Scale.unreported` looks at.
_APART = frozenset({"CONNECT", "AUTH", "STARTTLS", "DATA", "BDAT", "END-OF-MESSAGE"})
#: Stages at the end of a message: a mailer that sends the next command with it has waited for all
#: that matters, if the message was taken.
_AFTER_MESSAGE = frozenset({"DATA", "BDAT", "END-OF-MESSAGE", "RSET", "NOOP"})
#: Nothing but a farewell, as smtpd and postscreen write it (escape(3) of Postfix): health checks.
_FAREWELL = re.compile(
    r"(?:(?:EHLO|HELO|NOOP|RSET)[^\\]{0,120}(?:\\r)?\\n)*QUIT *(?:\\r)?(?:\\n)?", re.IGNORECASE
)
#: A TLS handshake: 0x16 0x03, escaped, or as `?` (non-SMTP command).
_TLS = re.compile(r"\\026\\003|\?\?")

#: Seconds in which a session adds `per_session` points; of those beyond, one in `_BEYOND`.
_MINUTE = 60.0
_BEYOND = 10
#: Minutes over which failed commands that only `disconnect` reports are spread, at most.
_SPREAD = 60
#: Lines, the first, of which is remembered what a session added, for giving it back.
_KEPT = 20
#: Failures without a user name that a login in the same session excuses.
_UNNAMED = 3
#: Commands of a session that wants nothing: a health check.
_IDLE = frozenset({"ehlo", "helo", "starttls", "noop", "rset", "quit", "commands"})
#: Commands of a session in which nothing was understood.
_GARBAGE = frozenset({"unknown", "commands"})
#: Failed commands of such a session that a ClientHello explains.
_CLIENT_HELLO = 4

_NONE = (0, 0)


class Session(Struct, gc=False):
    """The tally of one session."""

    client: str
    since: float = 0.0  # the time of its first line
    minute: float = 0.0  # when the minute began …
    points: int = 0  # … in which it did this much, see `Scale`
    given: tuple[tuple[float, int], ...] = ()  # time and points: given back if it logs in
    pipelined: tuple[tuple[float, int], ...] = ()  # of these: given back if it delivers
    tested: bool = False  # failed a test of postscreen
    harmless: int = 0  # 4xx, content, our own faults: they weigh nothing
    errors: int = 0  # all others
    reported: int = 0  # failed commands, but those of `_APART`, that had a line of their own
    denied: bool = False  # refused at a stage of `_DENIES`
    callouts: int = 0  # unknown recipients of the null sender …
    callout: float = 0.0  # … and when the first was refused
    auth_lines: int = 0
    user: str = ""
    failures: tuple[tuple[float, int, str], ...] = ()  # time, failed logins counted, user name
    login: bool = False  # has logged in
    proxy: bool = False  # the client may name others by XCLIENT: those are behind a proxy
    named: bool = False  # the client was named so

    def idle(self, commands: dict[str, tuple[int, int]] | None) -> bool:
        """Return whether the session wanted nothing.

        Args:
            commands: the counters of `disconnect`; None: it has none (postscreen).
        """
        return not self.given and not self.auth_lines and _IDLE.issuperset(commands or ())

    def said(self) -> bool:
        """Return whether a line of its own reported anything."""
        return self.harmless + self.errors + self.auth_lines + len(self.given) > 0

    def excused(self, user: str) -> list[tuple[float, int, str]]:
        """Return the failed logins counted that a login in this session excuses.

        Args:
            user: who logged in; "" where that is not known: nobody proved to own a name then.
        """
        unnamed = _UNNAMED
        found = []
        for failure in self.failures:
            if not failure[2] and unnamed >= failure[1]:
                unnamed -= failure[1]
                found.append(failure)
            elif user and _same(failure[2], user):
                found.append(failure)
        return found


class Scale:
    """Weighs what a session does, with the operator's points.

    In each minute of a session the first `per_session` points count, and a tenth of those beyond:
    a session that reaches Postfix's hard error limit (20 errors) crosses no limit, one that probes
    for ever does so within a hundred tries, not after minutes.
    """

    def __init__(self, points: Points) -> None:
        self._limit = points.per_session
        self._syntax = points.syntax
        self.empty_session = points.empty_session
        self._kinds: dict[str, int] = {
            kind: getattr(points, name) for kind, name in _KIND_POINTS.items()
        }
        self._reasons = {reason: getattr(points, name) for reason, name in _REASON_POINTS.items()}

    @staticmethod
    def kinds() -> list[str]:
        """Return the kinds of event that `error` weighs."""
        return ["reject", *_KIND_POINTS]

    def error(self, session: Session, event: Event, at: float = 0.0, scope: Scope = "mx") -> int:
        """Return the points that a line adds to its session.

        What is refused to a client that has logged in is a matter for its account.
        """
        if session.login:
            return 0
        if event.kind == "reject":
            return self._reject(session, event, at)
        points = self._offence(session, event, scope) * event.count
        session.tested |= event.process == "postscreen"
        given = self._give(session, points, at)
        if event.kind == "pipelining" and event.where in _AFTER_MESSAGE:
            session.pipelined = (*session.pipelined, (at, given))[:_KEPT]
        return given

    def _offence(self, session: Session, event: Event, scope: Scope) -> int:
        """Return what a line weighs that is no refusal; note what it explains."""
        kind = event.kind
        if kind in ("pipelining", "non_smtp_command", "pregreet"):
            return self._out_of_order(session, event, scope)
        if kind == "too_many_errors":
            # Postfix counts harmless errors towards its hard error limit too (smtpd.c:6258). What
            # was wrong with a message, cleanup says, so a limit met there is taken as harmless.
            # Failed logins have lines of their own.
            harmless = session.harmless + (event.where == "END-OF-MESSAGE") > session.errors
            return 0 if harmless or event.where == "AUTH" else self._kinds[kind]
        if kind == "bad_address":
            session.reported += event.count
        elif kind == "rate_limit":
            session.reported += event.count * (event.where == "recipient")
            session.auth_lines += event.count * (event.where == "auth")
            session.denied |= event.where == "message"
        if kind in ("rate_limit", "concurrency_limit") and version(event.client) == 6:
            session.harmless += event.count  # per /84 since 3.8: the one named may be a neighbour
            return 0
        return self._kinds[kind]

    def _out_of_order(self, session: Session, event: Event, scope: Scope) -> int:
        """Return the points for what was sent before its turn, or is no SMTP."""
        if event.process == "smtpd":
            # With smtpd_forbid_unauth_pipelining the command fails for it; garbage always does.
            session.reported += event.count
        if event.kind != "non_smtp_command" and (
            event.where == "QUIT" or _FAREWELL.fullmatch(event.text)
        ):
            return 0
        if _TLS.match(event.text):  # a mail program set up for another port: trouble with TLS
            return 0 if scope == "submission" else self._syntax
        return self._kinds[event.kind]

    def _reject(self, session: Session, event: Event, at: float) -> int:
        session.denied |= event.where in _DENIES
        session.reported += event.count * (event.where not in _APART)
        if event.reason in _HARMLESS:
            session.harmless += event.count
            return 0
        session.errors += event.count
        if event.process == "postscreen" and session.tested:
            return 0  # the test that failed has been counted; this says what came of it
        count = event.count
        if event.null_sender and event.where == "RCPT":
            before = session.callouts
            session.callouts += count
            if session.callouts == 1:
                return 0  # a sender callout or a bounce: counted apart
            count += before == 1  # then the first was none either
        return self._give(session, self._reasons.get(event.reason, 0) * count, at)

    def unreported(
        self,
        session: Session,
        commands: dict[str, tuple[int, int]],
        at: float = 0.0,
        scope: Scope = "mx",
    ) -> list[tuple[float, int]]:
        """Return time and points of failed commands that no line of their own reported.

        AUTH and STARTTLS have lines. After MAIL, DATA fails because every recipient was refused
        (a pipelining client cannot know), the connection was lost, or cleanup or a milter behind it
        would not have the message. What follows from a refusal is not counted again. They are
        spread evenly over the session, for its last hour: each minute has its own limit.

        Args:
            session: what its lines reported.
            commands: the counters of `disconnect`.
            at: when it ended.
            scope: where.
        """
        unseen = _unseen(session, commands)
        if scope == "submission" and _GARBAGE.issuperset(commands):
            # TLS on a plain port, which has no line of its own before Postfix 3.6: a ClientHello
            # is taken for some commands, as many as it has bytes that happen to be newlines.
            unseen -= _CLIENT_HELLO
        points = self._syntax * unseen
        if points <= 0:
            return []
        minutes = 1 + int(max(0.0, at - session.since) // _MINUTE)
        share = -(-points // minutes)
        given = [(at, self._give(session, share, at))]
        count = self._counted(share)
        given += [(at - n * _MINUTE, count) for n in range(1, minutes)][:_SPREAD]
        return given

    @staticmethod
    def auth_failures(session: Session, user: str, count: int, at: float = 0.0) -> int:
        """Return how many of `count` failures are to be counted: each; a login may excuse them."""
        session.user = user
        if len(session.failures) < _KEPT:
            session.failures = (*session.failures, (at, count, user))
        return count

    def _give(self, session: Session, points: int, at: float) -> int:
        if at - session.minute >= _MINUTE:
            session.minute = at
            session.points = 0
        given = self._counted(session.points + points) - self._counted(session.points)
        session.points += points
        if given:
            session.given = (*session.given, (at, given))[:_KEPT]
        return given

    def _counted(self, points: int) -> int:
        """Return how much counts of what a session does in a minute."""
        return min(points, self._limit) + max(0, points - self._limit) // _BEYOND


def _unseen(session: Session, commands: dict[str, tuple[int, int]]) -> int:
    """Return how many failed commands had no line."""
    if session.denied:
        return failed(commands, "unknown")
    unseen = failed(commands, "commands") - session.reported
    if unseen > 0:
        unseen -= failed(commands, "auth") + failed(commands, "starttls")
        if commands.get("mail", _NONE)[0]:
            unseen -= failed(commands, "data") + failed(commands, "bdat")
    return unseen


def _same(one: str, other: str) -> bool:
    """Return whether two user names are the same account's: one may lack the domain."""
    one, other = one.lower(), other.lower()
    if "@" in one and "@" in other:
        return one == other
    return one.partition("@")[0] == other.partition("@")[0]


def proves(user: str, name: str) -> bool:
    """Return whether a login as `user` proves that a failure under `name` was its own account's.

    No name, or one that lacks the domain, may be another account's.
    """
    return bool(user) and name.lower() == user.lower()


def family(user: str) -> str:
    """Return what user names that differ only in a number have in common.

    Accounts of one machine are numbered (`ci-1@`, `ci-2@`), and when our authentication server is
    overloaded they all fail, without a reason: that is no dictionary. A name that is a number stays
    what it is.
    """
    local, at, domain = user.partition("@")
    plain = _NUMBER.sub("0", local)
    return user if plain in ("0", local) else f"{plain}{at}{domain}"


def unnamed(failures: int) -> int:
    """Return how many failures of a session that no line reported stay counted after a login."""
    return max(0, failures - _UNNAMED)


def failed(commands: dict[str, tuple[int, int]], command: str) -> int:
    """Return how often a command failed."""
    accepted, total = commands.get(command, _NONE)
    return total - accepted
