"""The backend whose means is the answer to Postfix's policy requests: mail is slowed, not lost.

Before a message's content Postfix asks, and does what is answered (access(5)): `sleep N` delays a
message of a throttled subject to its rate; where too many wait already, or one would wait too
long, it is put on hold or deferred; mail of a banned subject is deferred or put on hold. Subjects
here are accounts, local users, domains and inside hosts. All other mail passes.

Of a recipient at RCPT only what comes from outside is asked about: above the rate of its mailbox or
domain, and while that is banned, it is deferred, which servers try again.

For clients behind a proxy, whose packets no firewall here can distinguish, the same entries are
looked up by address, and the session is refused with 421.

Texts are fixed, and nothing that a client wrote is in them. Owns the elements (in memory, restored
from the store at a start), the allowance of each throttled subject, and the messages that wait:
at most `Ruleset.answers.waiting` of one subject, and a fifth of the smtpd processes.
"""

import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from throttled import address
from throttled.enforce.allowance import Allowance, Waiting, whole
from throttled.enforce.backend import Applied, Ruleset
from throttled.enforce.cover import Cover
from throttled.enforce.memory import Key, Memory
from throttled.model import RESTRICTING, SCOPES, Action, Entry, Finding, Rate, Scope

#: Longest wait of a message, seconds: clients give up after 30 s, some sooner.
_LONGEST = 20
#: The share of the smtpd processes that may wait: one of five.
_SHARE = 5
_SLOWED = "sending rate of this account or host exceeded, try again later (throttled)"
_BANNED = "sending suspended for this account or host, contact your postmaster (throttled)"
_RECIPIENT = "this mailbox or domain receives too much mail, try again later (throttled)"
_CLIENT = "4.7.0 too many errors or connections from your address, try again later (throttled)"

Verdict = Literal["pass", "wait", "hold", "defer", "refuse"]


class Answer(Struct, frozen=True, gc=False):
    """What Postfix is answered."""

    action: str  # of access(5)
    verdict: Verdict
    subject: str = ""  # `hold`: whose entry it is
    rate: Rate | None = None  # … and at what rate such mail may go

    @property
    def accepted(self) -> bool:
        """Whether the message is taken, now or later."""
        return self.verdict in ("pass", "wait", "hold")


PASS = Answer("DUNNO", "pass")
#: Where what is put on hold cannot be recorded: it could never be released.
UNRECORDED = Answer(f"450 4.7.1 {_SLOWED}", "defer")
_REFUSE = Answer(f"421 {_CLIENT}", "refuse")
_FULL = Answer(f"450 4.2.1 {_RECIPIENT}", "defer")
#: Mail to a domain has this scope, mail from it the other.
_INCOMING: tuple[Scope, ...] = ("mx",)
_OUTGOING: tuple[Scope, ...] = ("submission",)
_NEGATIVE: dict[tuple[Action, str], Answer] = {
    ("throttle", "hold"): Answer(f"HOLD {_SLOWED}", "hold"),
    ("throttle", "defer"): Answer(f"450 4.7.1 {_SLOWED}", "defer"),
    ("ban", "hold"): Answer(f"HOLD {_BANNED}", "hold"),
    ("ban", "defer"): Answer(f"450 4.7.1 {_BANNED}", "defer"),
}


class PolicyAnswers(Memory):
    """Throttles and bans as answers to policy requests."""

    name = "policy-answers"
    enforces = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing; see `Memory`."""
        super().__init__(clock)
        self._protected = Cover()
        self._reset()

    def setup(self, ruleset: Ruleset) -> bool:
        """Use these rules; elements stay, and waiting messages continue to wait."""
        self._protected = Cover(ruleset.protected)
        return super().setup(ruleset)

    def check(self) -> list[Finding]:
        """Say that it can work anywhere: Postfix asks, or it does not."""
        return [Finding("ok", "answers Postfix's policy requests where Postfix asks")]

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Add or remove elements."""
        applied = super().apply(entries)
        for entry in entries:
            if address.is_network(entry.subject) and address.is_subject(entry.subject):
                self._prefixes.add(address.parse(entry.subject)[1])
        # At a cap of the elements; what is gone counts no more.
        for table in (self._allowances, self._refused):
            if len(table) > len(self._ends):
                for key in [key for key in table if key not in self._ends]:
                    del table[key]
        return applied

    def teardown(self) -> None:
        """Remove everything."""
        super().teardown()
        self._reset()

    def dropped(self) -> int:
        """Return how many messages and sessions were not let through at once."""
        return self._dropped

    def message(self, subjects: Sequence[str], spool: str, processes: int) -> Answer:
        """Return what is answered for a message.

        Args:
            subjects: whose it is: an account, an inside host, the sender's domain.
            spool: name of the Postfix instance that asks.
            processes: how many smtpd processes it may have.
        """
        if not self._ends or self._ruleset is None:
            return PASS
        now, settings = self._clock(), self._ruleset.answers
        banned = self._in_force(subjects, "ban", now)
        if banned:
            return self._negative(banned[0], settings.ban)
        throttled = self._in_force(subjects, "throttle", now)
        slowed = [(key, self._allowance(key)) for key in throttled]
        if not slowed:
            return PASS
        seconds = whole(max(allowance.wait(now) for _key, allowance in slowed))
        if seconds > 0 and not self._room(slowed, spool, processes, seconds, now):
            return self._negative(slowed[0][0], settings.over)
        for _key, allowance in slowed:
            allowance.use(now)
        if seconds <= 0:
            return PASS
        for name in {spool, *(key[0] for key, _allowance in slowed)}:
            self._waiting.add(name, now + seconds)
        return Answer(f"sleep {seconds}", "wait")

    def recipient(self, named: Sequence[str], targets: Sequence[Sequence[str]]) -> Answer:
        """Return what is answered for a recipient of a message from outside.

        It is deferred if what it names itself is above its rate or banned, or else if everything is
        that mail for it goes to: an alias may go to others too.

        Args:
            named: its mailbox and domain.
            targets: each mailbox, with its domain, that mail for it was delivered to.
        """
        if not self._ends or self._ruleset is None:
            return PASS
        now = self._clock()
        keys = {s: self._receiving(s, now) for group in (named, *targets) for s in group}
        full = {s: key for s, found in keys.items() for key in found if self._full(key, now)}
        mine = next((s for s in named if s in full), None)
        if mine is None and targets and all(any(s in full for s in group) for group in targets):
            mine = next(s for s in targets[0] if s in full)
        if mine is not None:
            self._count(full[mine])
            return _FULL
        for key in {key for found in keys.values() for key in found if key[2] == "throttle"}:
            self._allowance(key).use(now)
        return PASS

    def client(self, client: str, scope: Scope, *, begins: bool) -> Answer:
        """Return what is answered about a client, before it sends anything.

        Args:
            client: its address.
            scope: where it is.
            begins: whether its session is asked about for the first time.
        """
        if not self._ends or not client or client in self._protected:
            return PASS
        now = self._clock()
        around = self._around(client, scope, now)
        banned: list[Key] = [(subject, scope, "ban") for subject in around]
        for key in banned:
            if self._active(key, now):
                return self._refuse(key)
        throttled: list[Key] = [(subject, scope, "throttle") for subject in around if begins]
        for key in throttled:
            if self._active(key, now):
                allowance = self._allowance(key)
                if allowance.wait(now) > 0:
                    return self._refuse(key)
                allowance.use(now)
        return PASS

    def _around(self, client: str, scope: Scope, now: float) -> list[str]:
        """Return the subjects whose entries apply to a client: itself, the networks around it."""
        packed = address.pack(client)
        bits = len(packed) * 8
        if self._active((client, scope, "exempt"), now):
            return [client]
        prefixes = sorted(p for p in self._prefixes if p < bits)
        return [client, *(address.text(address.mask(packed, p), p) for p in prefixes)]

    def _in_force(self, subjects: Sequence[str], action: Action, now: float) -> list[Key]:
        """Return which entries there are of those who send: names have no scope, so in any."""
        keys: list[Key] = [
            (subject, scope, action)
            for subject in subjects
            for scope in (_OUTGOING if address.kind(subject) == "domain" else SCOPES)
        ]
        return [key for key in keys if self._active(key, now)]

    def _receiving(self, subject: str, now: float) -> list[Key]:
        """Return which throttles and bans there are of a mailbox or a domain that receives."""
        scopes = _INCOMING if address.kind(subject) == "domain" else SCOPES
        keys: list[Key] = [(subject, scope, action) for scope in scopes for action in RESTRICTING]
        return [key for key in keys if self._active(key, now)]

    def _full(self, key: Key, now: float) -> bool:
        """Return whether nothing more may arrive now."""
        return key[2] == "ban" or self._allowance(key).wait(now) > 0

    def _active(self, key: Key, now: float) -> bool:
        ends = self._ends.get(key)
        return ends is not None and ends[0] > now

    def _allowance(self, key: Key) -> Allowance:
        rate = self._rate(key)
        known = self._allowances.get(key)
        if known is None or known[0] != rate:
            known = self._allowances[key] = rate, Allowance(rate)
        return known[1]

    def _rate(self, key: Key) -> Rate:
        assert self._ruleset is not None  # noqa: S101 - there are elements, so it is set up
        rules = self._ruleset
        return self._ends[key][1] or Rate(rules.rate, rules.per, rules.burst)

    def _room(
        self,
        slowed: Sequence[tuple[Key, Allowance]],
        spool: str,
        processes: int,
        seconds: int,
        now: float,
    ) -> bool:
        assert self._ruleset is not None  # noqa: S101 - see `_allowance`
        most = self._ruleset.answers.waiting
        return (
            seconds <= _LONGEST
            and all(self._waiting.count(key[0], now) < most for key, _allowance in slowed)
            and self._waiting.count(spool, now) < max(1, processes // _SHARE)
        )

    def _negative(self, key: Key, how: str) -> Answer:
        self._count(key)
        found = _NEGATIVE[key[2], how]
        if found.verdict != "hold":
            return found
        return Answer(found.action, "hold", key[0], self._rate(key))

    def _refuse(self, key: Key) -> Answer:
        self._count(key)
        return _REFUSE

    def _count(self, key: Key) -> None:
        self._refused[key] = self._refused.get(key, 0) + 1
        self._dropped += 1

    def _packets(self, key: Key) -> int:
        return self._refused.get(key, 0)

    def _reset(self) -> None:
        self._allowances: dict[Key, tuple[Rate, Allowance]] = {}
        self._refused: dict[Key, int] = {}
        self._prefixes: set[int] = set()
        self._waiting = Waiting()
        self._dropped = 0
