"""Logs of clients good and bad, as Postfix 3.7 writes them, for tests of a few lines.

A story is a set of sessions, added in any order; `lines` gives each an smtpd process that is free
at its time, and puts the lines in order. Shapes: tests/samples, and the source of Postfix
(smtpd.c).
"""

import heapq
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from throttled.analysis.replay import Replay
from throttled.config.schema import Config
from throttled.facts import Facts
from throttled.model import Decision

#: Midnight, at which stories begin; their times are seconds since.
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
HOUR = 3600.0
MX = "postfix/smtpd"
SUBMISSION = "postfix/submission/smtpd"
SMTPS = "postfix/smtps/smtpd"
POSTSCREEN = "postfix/postscreen"

_FIRST_PID = 2000


def rejected(stage: str, reply: str, tail: str = "", prefix: str = "NOQUEUE: reject") -> str:
    """Return the line of a refusal."""
    tail = tail or "from=<list@sender.example> to=<u@example.org> proto=ESMTP helo=<sender.example>"
    return f"{prefix}: {stage} from CLIENT: {reply}; {tail}"


GREYLISTED = rejected("RCPT", "450 4.2.0 <u@example.org>: Recipient address rejected: Greylisted")
DEAD = rejected(
    "RCPT",
    "550 5.1.1 <u@example.org>: Recipient address rejected: User unknown in local recipient table",
)
RELAY = rejected("RCPT", "554 5.7.1 <u@else.example>: Relay access denied")
ACCEPTED = "3A5C01F2BC: client=CLIENT"
DELIVERED = "ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"


def failed(user: str, why: str = "authentication failure", method: str = "LOGIN") -> str:
    """Return the line of a failed login."""
    return f"warning: CLIENT: SASL {method} authentication failed: {why}, sasl_username={user}"


def login(user: str) -> str:
    """Return the line of a mail accepted from somebody who logged in."""
    return f"3A5C01F2BC: client=CLIENT, sasl_method=PLAIN, sasl_username={user}"


@dataclass(order=True)
class _Session:
    start: float
    tag: str
    bodies: list[str] = field(compare=False)
    end: float = 0.0
    pid: int = 0  # 0: of a process that is free


@dataclass
class Story:
    """Sessions of clients; all lines are events, except as many as `without_event` says."""

    without_event: int = 0
    sessions: list[_Session] = field(default_factory=list)

    def session(  # noqa: PLR0913 - what varies between sessions
        self,
        at: float,
        client: str,
        *bodies: str,
        commands: str = "commands=0/0",
        name: str = "unknown",
        tag: str = MX,
        seconds: float = 2.0,
    ) -> None:
        """Add a session: connect, what it says (CLIENT stands for the client), disconnect."""
        lines = ["connect from CLIENT", *bodies, f"disconnect from CLIENT {commands}"]
        texts = [line.replace("CLIENT", f"{name}[{client}]") for line in lines]
        self.sessions.append(_Session(at, tag, texts, at + seconds))

    def line(self, at: float, tag: str, body: str, pid: int = 1500) -> None:
        """Add a line of another process."""
        self.sessions.append(_Session(at, tag, [body], at, pid))

    def lines(self) -> Iterator[tuple[float, str]]:
        """Yield the log: seconds since the epoch, and the line."""
        written: list[tuple[float, int, str]] = []
        for session in _processes(self.sessions):
            step = (session.end - session.start) / max(1, len(session.bodies) - 1)
            for number, body in enumerate(session.bodies):
                at = MIDNIGHT + session.start + number * step
                written.append((at, len(written), f"{session.tag}[{session.pid}]: {body}"))
        for at, _, text in sorted(written):
            yield at, f"{datetime.fromtimestamp(at, UTC):%b %e %H:%M:%S} mx {text}"


def replayed(story: Story, config: Config, path: Path) -> list[Decision]:
    """Write a story to a file and replay it.

    Raises:
        AssertionError: lines were not read as events: such a story proves nothing.
    """
    path.write_text("".join(f"{line}\n" for _, line in story.lines()), encoding="latin-1")
    os.utime(path, (MIDNIGHT + 3 * 86400, MIDNIGHT + 3 * 86400))
    replay = Replay(config, Facts(), UTC)
    done = [d for d in replay.run([str(path)]) if isinstance(d, Decision)]
    assert replay.summary.lines == sum(len(session.bodies) for session in story.sessions) > 0
    assert sum(replay.summary.events.values()) == replay.summary.lines - story.without_event
    return done


def _processes(sessions: Iterable[_Session]) -> Iterator[_Session]:
    """Give each session a process that serves nobody else at the time."""
    free: dict[str, list[int]] = {}
    busy: list[tuple[float, str, int]] = []
    started = _FIRST_PID
    for session in sorted(sessions):
        while busy and busy[0][0] < session.start:
            _, tag, pid = heapq.heappop(busy)
            heapq.heappush(free[tag], pid)
        if not session.pid:
            idle = free.setdefault(session.tag, [])
            if idle:
                session.pid = heapq.heappop(idle)
            else:
                started += 1
                session.pid = started
            heapq.heappush(busy, (session.end, session.tag, session.pid))
        yield session
