"""Log lines as Postfix writes them, for benchmarks that cannot wait for a Postfix to be attacked.

Every shape here was read off the log of the lab's own Postfix. The lines are of the host `mx`.
"""

import itertools
import time
from collections.abc import Iterator, Sequence


def _smtpd() -> Iterator[int]:
    """Yield a pid for each session: of 100 processes, each of which serves 100 (max_use)."""
    for first in itertools.cycle(range(1_000, 32_000, 100)):
        for _ in range(100):
            yield from range(first, first + 100)


_pids = _smtpd()


def stamp(moment: float) -> str:
    """Return a wall-clock time as RFC 3164 writes it, in this machine's zone."""
    return time.strftime("%b %d %H:%M:%S", time.localtime(moment))


def guesses(source: str, users: Sequence[str], when: str) -> str:
    """Return the lines of one session that fails to log in as each of the users."""
    client = f"unknown[{source}]"
    head = f"{when} mx postfix/smtpd[{next(_pids)}]:"
    failed = f"{head} warning: {client}: SASL LOGIN authentication failed: authentication failure"
    lines = [
        f"{head} connect from {client}",
        *(f"{failed}, sasl_username={user}" for user in users),
        f"{head} lost connection after AUTH from {client}",
        f"{head} disconnect from {client} ehlo=1 auth=0/{len(users)} commands=1/{1 + len(users)}",
    ]
    return "\n".join(lines) + "\n"


def flood(sources: Sequence[str], lines: int, start: float, per_second: int) -> Iterator[str]:
    """Yield the lines of a flood, whole sessions, about so many lines in all.

    Of five sessions two connect and hang up, one guesses, one harvests, one talks HTTP.

    Args:
        sources: the clients, taken in turn.
        lines: how many lines at least.
        start: wall clock of the first line.
        per_second: lines that carry the same time.
    """
    count = 0
    for number, source in enumerate(itertools.cycle(sources)):
        session = _session(number, source, stamp(start + count / per_second))
        yield session
        count += session.count("\n")
        if count >= lines:
            return


def _session(number: int, source: str, when: str) -> str:
    client = f"unknown[{source}]"
    head = f"{when} mx postfix/smtpd[{next(_pids)}]:"
    kind = (number * 7919 >> 3) % 5  # so that one source does not always do the same
    if kind == 0:
        return guesses(source, [f"user{number}"], when)
    if kind == 1:
        to = f"<u{number}@example.test>"
        middle = (
            f"{head} NOQUEUE: reject: RCPT from {client}: 550 5.1.1 {to}: Recipient address "
            f"rejected: User unknown in virtual mailbox table; from=<a@bot.test> to={to} "
            f"proto=ESMTP helo=<bot.test>\n"
        )
        end = "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"
    elif kind == 2:
        middle = f"{head} warning: non-SMTP command from {client}: GET / HTTP/1.1\n"
        end = "ehlo=1 unknown=0/1 commands=1/2"
    else:
        middle = f"{head} lost connection after CONNECT from {client}\n"
        end = "commands=0/0"
    return f"{head} connect from {client}\n{middle}{head} disconnect from {client} {end}\n"
