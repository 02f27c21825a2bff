"""From a crossing and the client's past to a decision: watch, throttle, ban. Pure.

The past comes from the store with the batch, so a million old bans cost no memory here. Each
crossing is judged for itself: what one limit spares a client says nothing of another. Owns the
brake; all else is in its arguments.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from throttled import address
from throttled.decide import networks as together
from throttled.decide.allowance import kind_of, lenient, proven, remembered
from throttled.decide.brake import Brake
from throttled.decide.limits import NEVER
from throttled.decide.networks import Key, above
from throttled.decide.protect import INSIDE, Protection
from throttled.errors import RefusedError
from throttled.model import (
    Action,
    Crossing,
    Decision,
    NetworkPast,
    Past,
    Rate,
    Scope,
    Snapshot,
)
from throttled.settings import GUESSING, Policy

#: Counts of connections: a throttle for these is spared whom remembered mail speaks for.
_CONNECTIONS = frozenset({"connections", "handshakes"})
#: The limit of what operators ban and throttle.
OPERATOR = "operator"


class Ruling(Struct, frozen=True):
    """What became of a batch of crossings."""

    decisions: list[Decision]  # at most one a subject and scope
    spared: list[tuple[Crossing, str]]  # crossings without a decision, and why
    #: Crossings that led to less than they asked for, and up to which value that holds.
    excused: list[tuple[Crossing, int]]


class Ladder:
    """The judging half of deciding."""

    def __init__(self, policy: Policy, protection: Protection) -> None:
        self.policy = policy
        self.protection = protection
        self._brake = Brake()

    def judge(
        self,
        crossings: Iterable[Crossing],
        pasts: Mapping[Key, Past],
        networks: Mapping[Key, NetworkPast],
        now: float,
    ) -> Ruling:
        """Decide about clients and networks that crossed limits.

        Args:
            crossings: any number a subject, of different limits.
            pasts: what the store knows of the clients, by (address, scope).
            networks: what it knows of their networks, by (network, scope).
            now: wall clock.
        """
        ruling = Ruling([], [], [])
        judged: list[tuple[Crossing, Decision]] = []
        crowds = []
        for crossing in crossings:
            if address.is_network(crossing.subject):
                crowds.append(crossing)
                continue
            past = pasts.get((crossing.subject, crossing.scope), _UNKNOWN)
            decision, upto, why = self._one(crossing, past, now)
            if upto:
                ruling.excused.append((crossing, upto))
            if decision is None:
                ruling.spared.append((crossing, why))
            else:
                judged.append((crossing, decision))
        found = self._braked(judged, pasts, ruling, now)
        judge = together.Judge(self.policy, self.protection)
        banned = [d for d in self._strongest(found) if not self.policy.of_senders(d.limit)]
        for (network, scope), count in together.fresh(banned).items():
            known = networks.get((network, scope), _UNKNOWN_NETWORK)
            acted = judge.banned(network, scope, known, count, now)
            found += [] if acted is None else [acted]
        for crossing in crowds:
            known = networks.get((crossing.subject, crossing.scope), _UNKNOWN_NETWORK)
            crowd = judge.together(crossing, known, now)
            if isinstance(crowd, str):
                ruling.spared.append((crossing, crowd))
                ruling.excused.append((crossing, NEVER))
            else:
                found.append(crowd)
        return replace(ruling, decisions=self._strongest(found))

    def ended(self, rows: Sequence[Snapshot], now: float) -> list[Decision]:
        """Return what follows when a ban or throttle has expired: a throttle, or nothing more.

        A ban of a length that an operator stated ends without a throttle.

        The throttle ends when it would have if it had begun in time: of a ban that expired while
        the daemon was stopped only the rest is left, or nothing.
        """
        decisions = []
        for row in rows:
            ladder = row.action == "ban" and self.policy.mode != "observe" and not _stated(row)
            until = row.until + self.policy.throttle.time
            if ladder and until > now and not self.protected(row.subject, row.limit):
                why = "a ban ends in a throttle"
                found = Decision(now, "throttle", row.subject, row.scope, "ladder", 0, until, why)
            else:
                why = "exemption expired" if row.action == "exempt" else f"{row.action} expired"
                found = Decision(now, "release", row.subject, row.scope, row.limit, 0, now, why)
            decisions.append(replace(found, origin=row.origin, name=row.name))
        return decisions

    def manual(  # noqa: PLR0913 - the words of the operator's command
        self,
        action: Action,
        subject: str,
        scope: Scope,
        past: Past,
        now: float,
        *,
        seconds: float | None,
        why: str,
        sender: bool = False,
        rate: Rate | None = None,
    ) -> Decision:
        """Return the decision that an operator's `ban` or `throttle` asks for.

        Args:
            action: what he asks for.
            subject: canonical address or network.
            scope: where.
            past: what the store knows of it.
            now: wall clock.
            seconds: how long; None for the next step of the ladder.
            why: its words.
            sender: its mail is slowed, no packet is dropped.
            rate: of a throttle; None = that of [throttle].

        Raises:
            RefusedError: the subject is protected.
        """
        protection = self.protection
        protected = protection.sender(subject) if sender else protection.reason(subject)
        if protected:
            raise RefusedError(
                f"{subject} is protected: {protected}",
                "what is protected: this host, Postfix's mynetworks, [protect], `throttled allow`",
            )
        level, length = self._ban(past, now)
        if action == "throttle":
            level, length = 0, self.policy.throttle.time
        if seconds is None:
            seconds = length
        else:
            level = 0  # no step of the ladder: see `ended`
        found = (action, subject, scope, OPERATOR, level, now + seconds, why)
        return Decision(now, *found, origin=OPERATOR, rate=rate)

    def protected(self, subject: str, limit: str, name: str = "") -> str:
        """Return why a subject is not acted on for a limit, or "".

        Args:
            subject: canonical.
            limit: which: of clients or of senders.
            name: the client's forward-confirmed host name, where known.
        """
        if self.policy.of_senders(limit):
            return self.protection.sender(subject)
        reason = self.protection.reason(subject, name)
        if limit == OPERATOR and reason == INSIDE:  # its mail is slowed, no packet is dropped
            return self.protection.sender(subject)
        return reason

    def next_ban(self, past: Past, now: float, limit: str) -> float:
        """Return how many seconds the next ban for a limit would last."""
        return self._ban(past, now, limit)[1]

    def _ban(self, past: Past, now: float, limit: str = OPERATOR) -> tuple[int, float]:
        """Return the step of the ladder that comes next, and its length in seconds."""
        level = offences(past, self.policy.ban.forget, now) + 1
        settings = self.policy.limits.get(limit)
        times = (settings and settings.ban_times) or self.policy.ban.times
        return level, times[min(level, len(times)) - 1]

    def _one(self, crossing: Crossing, past: Past, now: float) -> tuple[Decision | None, int, str]:
        """Judge one crossing.

        Returns:
            The decision; up to which value of its limit it need not be judged again, 0 = it is;
            where there is no decision, why.
        """
        spared = self._spared(crossing, past, now)
        if spared:
            return None, NEVER, spared
        if crossing.action == "throttle" and crossing.count in _CONNECTIONS:
            # That a session delivers is known when it ends: no mail of this minute speaks for it.
            upto, excuse = self._excuse(crossing, past, now)
            if upto:
                return None, upto, excuse
        decision, upto = self._decide(crossing, past, now)
        throttled = past.action == "throttle" and past.until > now
        as_slow = throttled and self._pace(past.rate) <= self._pace(decision.rate)
        if decision.action == "throttle" and as_slow:
            return None, upto or crossing.value, "already throttled"
        return decision, upto, ""

    def _spared(self, crossing: Crossing, past: Past, now: float) -> str:
        protected = self.protected(crossing.subject, crossing.limit, crossing.name)
        if protected:
            return f"protected: {protected}"
        if past.exempt_until > now:
            return "exempted by the operator"
        if past.until > now and past.action == "ban":
            return "already banned"
        if crossing.limit == GUESSING and remembered(crossing.count, past, now):
            return "it logged in within 30 days: only the other limits apply"
        return ""

    def _decide(self, crossing: Crossing, past: Past, now: float) -> tuple[Decision, int]:
        """Return the decision, and up to which value it is less than asked for; 0 = it is not."""
        why = above(crossing)
        upto, excuse = self._excuse(crossing, past, now)
        if crossing.action == "throttle":
            rate, seconds = self._rate(crossing.limit)
            if upto and self._pace(rate) < self._pace(None):
                why = f"{why}; not at the limit's own rate: {excuse}"
                return self._throttle(crossing, why, now, self.policy.throttle.time), upto
            return self._throttle(crossing, why, now, seconds, rate), 0
        if upto:
            rate, seconds = self._rate(crossing.limit)
            why = f"{why}; not banned: {excuse}"
            return self._throttle(crossing, why, now, seconds, rate), upto
        level, length = self._ban(past, now, crossing.limit)
        return _decision(crossing, "ban", level, now, now + length, why), 0

    def _excuse(self, crossing: Crossing, past: Past, now: float) -> tuple[int, str]:
        """Return up to which value a client is spared the worst, and why; 0 = it is not."""
        banning = crossing.action == "ban"
        if banning and self.policy.mode_of(crossing.limit) == "throttle":
            return NEVER, "mode is throttle"
        if self.policy.of_senders(crossing.limit):
            return 0, ""
        if banning and crossing.count == "callouts" and past.deliveries + crossing.good:
            return NEVER, "it delivered, and whose forged mail it verifies is not its doing"
        known = remembered(crossing.count, past, now)
        plain = crossing.plain or crossing.threshold
        settings, limit = self.policy.good, self.policy.limits.get(crossing.limit)
        if limit is not None and limit.factor is not None:
            settings = replace(settings, memory=limit.factor)
        upto = lenient(plain, crossing.good, known, settings)
        if crossing.value > upto:
            return 0, ""
        if kind_of(crossing.count) == "logins":
            return upto, f"{known} logins in 30 days excuse it up to {upto}"
        days = f"deliveries on {past.delivery_days} days"
        return upto, f"{known} {days} excuse it up to {upto}"

    def _rate(self, limit: str) -> tuple[Rate | None, float]:
        """Return the rate of a limit's throttle, None = the configured one, and its length."""
        settings = self.policy.limits.get(limit)
        own = None if settings is None else settings.throttle
        if limit == GUESSING:
            own = self.policy.guessing.throttle
        if own is None:
            return None, self.policy.throttle.time
        return own.as_rate(), own.time or self.policy.throttle.time

    def _pace(self, rate: Rate | None) -> float:
        """Return the connections a second that a throttle allows."""
        given = self.policy.throttle
        return given.rate / given.per if rate is None else rate.count / rate.per

    def _throttle(
        self, crossing: Crossing, why: str, now: float, seconds: float, rate: Rate | None = None
    ) -> Decision:
        return replace(_decision(crossing, "throttle", 0, now, now + seconds, why), rate=rate)

    def _strongest(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Return one decision for each subject and scope: a ban, else the slowest throttle."""

        def strength(d: Decision) -> tuple[bool, float, float]:
            return d.action == "ban", -self._pace(d.rate), d.until

        best: dict[Key, Decision] = {}
        for decision in decisions:
            key = (decision.subject, decision.scope)
            known = best.get(key)
            if known is None or strength(decision) > strength(known):
                best[key] = decision
        return list(best.values())

    def _braked(
        self,
        judged: Sequence[tuple[Crossing, Decision]],
        pasts: Mapping[Key, Past],
        ruling: Ruling,
        now: float,
    ) -> list[Decision]:
        good = {
            (c.subject, c.limit)
            for c, d in judged
            if d.action == "ban" and proven(c.count, pasts.get((c.subject, c.scope), _UNKNOWN), now)
        }
        count = self._brake.press(good, now, self.policy.protect.brake)
        alert = f"brake: {count} clients with good history were about to be banned" if count else ""
        until = now + self.policy.throttle.time
        found = []
        for c, d in judged:
            if d.action == "ban" and (count or self._brake.spares((c.subject, c.limit), now)):
                why = f"{d.why}; not banned: the brake {'is' if count else 'was'} on"
                found.append(
                    replace(d, action="throttle", level=0, until=until, why=why, alert=alert)
                )
                ruling.excused.append((c, NEVER))
            else:
                found.append(d)
        return found


def _decision(  # noqa: PLR0913, PLR0917 - what a crossing does not say
    crossing: Crossing, action: Action, level: int, now: float, until: float, why: str
) -> Decision:
    return Decision(
        now,
        action,
        crossing.subject,
        crossing.scope,
        crossing.limit,
        level,
        until,
        why,
        crossing.value,
        crossing.threshold,
        crossing.lines,
        pid=crossing.pid,
        port=crossing.port,
        above="hard" if crossing.action == "ban" else "soft",
        name=crossing.name,
    )


_UNKNOWN = Past()
_UNKNOWN_NETWORK = NetworkPast()


def _stated(row: Snapshot) -> bool:
    """Return whether an operator stated how long a ban lasts."""
    return row.limit == OPERATOR and row.level == 0


def offences(past: Past, forget: float, now: float) -> int:
    """Return the bans that still count: one less for each `forget` seconds without an offence."""
    lapsed = int(max(0.0, now - past.last_offence) // forget)
    return max(0, past.offences - lapsed)
