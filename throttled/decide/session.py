"""What one SMTP session has been blamed for, so that nothing is counted twice. Pure.

A session is known by its log source, host, process and pid (smtpd serves one client at a time) or
by the client's address and port (one postscreen serves many). It is made by the first line that
needs it and ends at `disconnect` or at the next `connect` of the same process; the engine owns it.
"""

from msgspec import Struct

from throttled.model import Event
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


class Session(Struct, gc=False):
    """The tally of one session."""

    client: str
    points: int = 0  # given so far, at most Points.per_session
    temporary: int = 0  # 4xx and our own faults: they weigh nothing
    errors: int = 0  # all others
    reported: int = 0  # failed commands, AUTH aside, that had a line of their own
    auth_lines: int = 0
    user: str = ""
    repeats: int = 0  # failures in a row with `user`


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
        if kind == "bad_address" or (kind == "reject" and event.where != "CONNECT"):
            session.reported += event.count
        if kind == "reject":
            if event.reason == "temporary":
                session.temporary += event.count
                return 0
            session.errors += event.count
            if event.process == "postscreen" and session.points:
                return 0  # the test that failed has been counted; this says what came of it
            return self._give(session, self._reasons.get(event.reason, 0) * event.count)
        if kind == "too_many_errors" and session.temporary and not session.errors:
            return 0  # greylisted: Postfix counts 4xx towards its hard error limit (smtpd.c:6258)
        if kind in ("rate_limit", "concurrency_limit") and ":" in event.client:
            return 0  # counted per /84 since 3.8: the one named may be a neighbour
        return self._give(session, self._kinds.get(kind, 0) * event.count)

    def unreported(self, session: Session, failed: int) -> int:
        """Return the points for failed commands that no line of their own reported.

        Args:
            session: what its lines reported.
            failed: commands that failed in all, without AUTH and STARTTLS, which have lines.
        """
        unseen = failed - session.reported
        return self._give(session, self._syntax * unseen) if unseen > 0 else 0

    def auth_failures(self, session: Session, user: str, count: int) -> int:
        """Return how many of `count` failures with one user name are to be counted."""
        if user != session.user:
            session.user = user
            session.repeats = 0
        before = session.repeats
        session.repeats += count
        return _judged(session.repeats) - _judged(before)

    def _give(self, session: Session, points: int) -> int:
        given = min(points, self._limit - session.points)
        session.points += given
        return given


def _judged(failures: int) -> int:
    """Return what so many failures with one user name in one session count as."""
    return min(failures, 1) + max(0, failures - _RETRIES)
