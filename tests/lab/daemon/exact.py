"""Clients whose fate shows whether each of their log lines was counted, and counted once.

At the defaults a line of theirs weighs 5 points; above 20 is throttled, above 50 banned. So with
4 lines nothing happens, with 5 to 10 a throttle, with 11 a ban: one line that is lost makes less
of the client's fate, one that is counted twice makes more. That is seen in what is active
whatever happens to the daemon meanwhile; a count of lines would end with its process.

Addresses of 100.64.0.0/10, each in a network of its own, are text in logs and elements in sets;
nothing is ever sent to them. Owns nothing.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from lab.mail import logs
from throttled.model import Action, Snapshot

#: Lines of a client, and what must come of it. The twins of each threshold.
_FATES: dict[int, Action | None] = {4: None, 5: "throttle", 10: "throttle", 11: "ban"}
STEPS = max(_FATES)
_RANK: Mapping[Action | None, int] = {None: 0, "throttle": 1, "ban": 2}
_pids = itertools.count(1_000_000)  # more than Linux gives to a process: no session but ours


class Verdict(Struct):
    """What became of the clients."""

    lines: int
    lost: list[str]  # clients of which a line was not counted
    twice: list[str]  # clients of which a line was counted more than once


class Cohort:
    """Some clients.

    Args:
        count: how many, a quarter of them for each fate.
        first: of which network the first is; cohorts must not overlap.
    """

    def __init__(self, count: int, first: int = 0) -> None:
        fates = itertools.cycle(_FATES)
        numbers = range(first, first + count)
        self.clients = {
            f"100.{64 + n // 256 % 64}.{n % 256}.9": fate
            for n, fate in zip(numbers, fates, strict=False)
        }

    def step(self, number: int) -> list[str]:
        """Return the lines of one step of `STEPS`, each with its end."""
        when = logs.stamp(time.time())
        return [
            f"{when} mx postfix/smtpd[{next(_pids)}]: warning: non-SMTP command from "
            f"unknown[{client}]: GET / HTTP/1.1\n"
            for client, lines in self.clients.items()
            if number < lines
        ]

    def steps(self) -> Iterator[list[str]]:
        """Yield the lines of each step, stamped when asked for."""
        return map(self.step, range(STEPS))

    def judge(self, rows: Sequence[Snapshot]) -> Verdict:
        """Return what was lost or counted twice, from all that is active."""
        seen = {row.subject: _RANK[row.action] for row in rows}
        verdict = Verdict(sum(self.clients.values()), [], [])
        for client, lines in self.clients.items():
            excess = seen.get(client, 0) - _RANK[_FATES[lines]]
            if excess:
                (verdict.twice if excess > 0 else verdict.lost).append(client)
        return verdict
