"""What one SMTP session has been blamed for, so that nothing is counted twice. Pure.

A session is known by its log source, host, process and pid (smtpd serves one client at a time) or
by the client's address and port (one postscreen serves many). It is made by the first line that
needs it and ends at `disconnect` or at the next `connect` of the same process; the engine owns it.
"""

from msgspec import Struct

from throttled.model import Event, Reason
from throttled.policy import Points

#: Failures with one user name in one session that count as one: a person mistypes, and a mail
#: program retries what it has saved.
_RETRIES = 3

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

_NONE = (0, 0)


class Session(Struct, gc=False):
    """The tally of one session."""

    client: str
    points: int = 0  # given so far, at most Points.per_session
    harmless: int = 0  # 4xx, content, our own faults: they weigh nothing
    errors: int = 0  # all others
    reported: int = 0  # failed commands, but those of `_APART`, that had a line of their own
    denied: bool = False  # refused at a stage of `_DENIES`
    auth_lines: int = 0
    user: str = ""
    repeats: int = 0  # failures in a row with `user`
    proxy: bool = False  # the client may name others by XCLIENT: those are somebody else's


class Scale:
    """Weighs what a session does, with the operator's points."""

    def __init__(self, points: Points) -> None:
        self._limit = points.per_session
        self._syntax = points.syntax
        self.empty_session = points.empty_session
        self._kinds = {kind: getattr(points, name) for kind, name in _KIND_POINTS.items()}
        self._reasons = {reason: getattr(points, name) for reason, name in _REASON_POINTS.items()}

    @staticmethod
    def kinds() -> list[str]:
        """Return the kinds of event that `error` weighs."""
        return ["reject", *_KIND_POINTS]

    def error(self, session: Session, event: Event) -> int:
        """Return the points that a line adds to its session."""
        kind = event.kind
        if kind == "reject":
            return self._reject(session, event)
        if kind == "too_many_errors":
            # Postfix counts harmless errors towards its hard error limit too (smtpd.c:6258). What
            # was wrong with a message, cleanup says, so a limit met there is taken as harmless.
            if session.harmless + (event.where == "END-OF-MESSAGE") > session.errors:
                return 0
        elif kind == "bad_address":
            session.reported += event.count
        elif kind == "rate_limit":
            session.reported += event.count * (event.where == "recipient")
            session.auth_lines += event.count * (event.where == "auth")
            session.denied |= event.where == "message"
        if kind in ("rate_limit", "concurrency_limit") and ":" in event.client:
            session.harmless += event.count  # per /84 since 3.8: the one named may be a neighbour
            return 0
        return self._give(session, self._kinds.get(kind, 0) * event.count)

    def _reject(self, session: Session, event: Event) -> int:
        session.denied |= event.where in _DENIES
        session.reported += event.count * (event.where not in _APART)
        if event.reason in _HARMLESS:
            session.harmless += event.count
            return 0
        session.errors += event.count
        if event.process == "postscreen" and session.points:
            return 0  # the test that failed has been counted; this says what came of it
        return self._give(session, self._reasons.get(event.reason, 0) * event.count)

    def unreported(self, session: Session, commands: dict[str, tuple[int, int]]) -> int:
        """Return the points for failed commands that no line of their own reported.

        AUTH and STARTTLS have lines. After MAIL, DATA fails because every recipient was refused
        (a pipelining client cannot know), the connection was lost, or cleanup or a milter behind it
        would not have the message. What follows from a refusal is not counted again.

        Args:
            session: what its lines reported.
            commands: the counters of `disconnect`.
        """
        if session.denied:
            return self._give(session, self._syntax * failed(commands, "unknown"))
        unseen = failed(commands, "commands") - session.reported
        if unseen <= 0:
            return 0
        unseen -= failed(commands, "auth") + failed(commands, "starttls")
        if commands.get("mail", _NONE)[0]:
            unseen -= failed(commands, "data") + failed(commands, "bdat")
        return self._give(session, self._syntax * unseen) if unseen > 0 else 0

    def auth_failures(self, session: Session, user: str, count: int) -> int:
        """Return how many of `count` failures with one user name are to be counted."""
        if user != session.user:
            session.user = user
            session.repeats = 0
        before = session.repeats
        session.repeats += count
        if not before and count == 1:  # the way of a dictionary
            return 1
        return _judged(session.repeats) - _judged(before)

    def _give(self, session: Session, points: int) -> int:
        given = min(points, self._limit - session.points)
        session.points += given
        return given


def _judged(failures: int) -> int:
    """Return what so many failures with one user name in one session count as."""
    return min(failures, 1) + max(0, failures - _RETRIES)


def failed(commands: dict[str, tuple[int, int]], command: str) -> int:
    """Return how often a command failed."""
    accepted, total = commands.get(command, _NONE)
    return total - accepted
