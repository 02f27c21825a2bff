"""From a crossing and the client's past to a decision: watch, throttle, ban. Pure.

The past comes from the store with the batch, so a million old bans cost no memory here. Owns the
brake; all else is in its arguments.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from throttled import address
from throttled.decide.brake import Brake
from throttled.decide.protect import Protection
from throttled.errors import RefusedError
from throttled.model import Action, Crossing, Decision, NetworkPast, Past, Scope, Snapshot
from throttled.policy import Duration, Policy

_DAY = 86400.0
#: Bad that outweighs good: so many counted for each delivery or login.
OUTWEIGHS = 20
_LOGIN_COUNTS = 30 * _DAY
#: The same for points of one who never delivered before today: of fifty recipients, the most that
#: Postfix puts into a message, a list has two or three dead ones.
_NEWCOMER = 3

_WORDS = {
    "connections": "connections",
    "handshakes": "completed handshakes",
    "errors": "points for errors",
    "callouts": "unknown recipients of sender callouts or bounces",
    "auth_failures": "failed logins",
    "auth_users": "user names tried",
}

Key = tuple[str, Scope]


class Ruling(Struct, frozen=True):
    """What became of a batch of crossings."""

    decisions: list[Decision]
    spared: list[tuple[Crossing, str]]  # crossings without a decision, and why


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
        """Decide about clients that crossed a limit.

        Args:
            crossings: at most one a client and scope, or a /64 whose addresses did it together.
            pasts: what the store knows of them, by (address, scope).
            networks: what it knows of their networks, by (network, scope).
            now: wall clock.
        """
        ruling = Ruling([], [])
        together = []
        for crossing in crossings:
            if address.is_network(crossing.subject):
                together.append(crossing)
                continue
            past = pasts.get((crossing.subject, crossing.scope), _UNKNOWN)
            spared = self._spared(crossing, past, now)
            if spared:
                ruling.spared.append((crossing, spared))
            else:
                ruling.decisions.append(self._decide(crossing, past, now))
        decisions = self._braked(ruling.decisions, pasts, now)
        decisions += self._networks(decisions, networks, now)
        for crossing in together:
            network = networks.get((crossing.subject, crossing.scope), _UNKNOWN_NETWORK)
            self._together(crossing, network, now, ruling.spared, decisions)
        return Ruling(decisions, ruling.spared)

    def ended(self, rows: Sequence[Snapshot], now: float) -> list[Decision]:
        """Return what follows when a ban or throttle has run out: a throttle, or nothing more.

        The throttle ends when it would have if it had begun in time: of a ban that ran out while
        the daemon was stopped only the rest is left, or nothing.
        """
        decisions = []
        for row in rows:
            banned = row.action == "ban" and self.policy.mode != "observe"
            until = row.until + self.policy.throttle.time
            if banned and until > now and not self.protection.reason(row.subject):
                why = "a ban ends in a throttle"
                decisions.append(
                    Decision(now, "throttle", row.subject, row.scope, "ladder", 0, until, why)
                )
            else:
                why = "exemption expired" if row.action == "exempt" else f"{row.action} ran out"
                decisions.append(
                    Decision(now, "release", row.subject, row.scope, row.limit, 0, now, why)
                )
        return decisions

    def by_hand(  # noqa: PLR0913 - the words of the operator's command
        self,
        action: Action,
        subject: str,
        scope: Scope,
        past: Past,
        now: float,
        *,
        seconds: float | None,
        why: str,
    ) -> Decision:
        """Return the decision that an operator's `ban` or `throttle` asks for.

        Args:
            action: what he asks for.
            subject: canonical address or network.
            scope: where.
            past: what the store knows of it.
            now: wall clock.
            seconds: how long; None for the next step of the ladder.
            why: his words.

        Raises:
            RefusedError: the subject is protected.
        """
        protected = self.protection.reason(subject)
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
        return Decision(now, action, subject, scope, "operator", level, now + seconds, why)

    def next_ban(self, past: Past, now: float) -> float:
        """Return how many seconds the next ban would last."""
        return self._ban(past, now)[1]

    def _ban(self, past: Past, now: float) -> tuple[int, float]:
        """Return the step of the ladder that comes next, and its length in seconds."""
        level = offences(past, self.policy.ban.forget, now) + 1
        times = self.policy.ban.times
        return level, times[min(level, len(times)) - 1]

    def _spared(self, crossing: Crossing, past: Past, now: float) -> str:
        protected = self.protection.reason(crossing.subject, crossing.name)
        if protected:
            return f"protected: {protected}"
        if past.exempt_until > now:
            return "exempted by the operator"
        if past.until > now and past.action == "ban":
            return "already banned"
        if past.until > now and past.action == crossing.action:  # known after a restart only
            return "already throttled"
        return ""

    def _decide(self, crossing: Crossing, past: Past, now: float) -> Decision:
        why = f"{crossing.value} {_WORDS[crossing.count]} within {Duration(crossing.within)}"
        if crossing.action == "throttle":
            return self._throttle(crossing, now, f"{why}, soft limit {crossing.threshold}")
        why = f"{why}, hard limit {crossing.threshold}"
        if self.policy.mode == "throttle":
            return self._throttle(crossing, now, f"{why}; mode is throttle")
        good = proven_good(past, now)
        if good and crossing.value <= OUTWEIGHS * (past.deliveries + past.logins):
            return self._throttle(crossing, now, f"{why}; not banned: {good}")
        if crossing.count == "errors" and crossing.value <= _NEWCOMER * past.deliveries:
            good = f"it delivered {past.deliveries} messages"
            return self._throttle(crossing, now, f"{why}; not banned: {good}")
        level, length = self._ban(past, now)
        return Decision(
            now,
            "ban",
            crossing.subject,
            crossing.scope,
            crossing.limit,
            level,
            now + length,
            why,
            crossing.value,
            crossing.threshold,
            crossing.lines,
        )

    def _throttle(self, crossing: Crossing, now: float, why: str, alert: str = "") -> Decision:
        return Decision(
            now,
            "throttle",
            crossing.subject,
            crossing.scope,
            crossing.limit,
            0,
            now + self.policy.throttle.time,
            why,
            crossing.value,
            crossing.threshold,
            crossing.lines,
            alert,
        )

    def _braked(
        self, decisions: list[Decision], pasts: Mapping[Key, Past], now: float
    ) -> list[Decision]:
        good = {
            d.subject
            for d in decisions
            if d.action == "ban" and recently_good(pasts.get((d.subject, d.scope), _UNKNOWN), now)
        }
        count = self._brake.press(good, now, self.policy.protect.brake)
        alert = f"brake: {count} clients with good history were about to be banned" if count else ""
        until = now + self.policy.throttle.time
        return [
            replace(
                d,
                action="throttle",
                level=0,
                until=until,
                why=f"{d.why}; not banned: the brake {'is' if count else 'was'} on",
                alert=alert,
            )
            if d.action == "ban" and (count or self._brake.spares(d.subject, now))
            else d
            for d in decisions
        ]

    def _networks(
        self, decisions: Sequence[Decision], networks: Mapping[Key, NetworkPast], now: float
    ) -> list[Decision]:
        fresh: dict[Key, int] = {}
        for decision in decisions:
            if decision.action == "ban":
                network = address.network_of(decision.subject)
                if network:
                    key = (network, decision.scope)
                    # One that was banned before today may be in `past.banned` already.
                    fresh[key] = fresh.get(key, 0) + (decision.level == 1)
        found = []
        for (network, scope), count in fresh.items():
            past = networks.get((network, scope), _UNKNOWN_NETWORK)
            acted = self._network(network, scope, past, count, now)
            if acted is not None:
                found.append(acted)
        return found

    def _together(
        self,
        crossing: Crossing,
        past: NetworkPast,
        now: float,
        spared: list[tuple[Crossing, str]],
        decisions: list[Decision],
    ) -> None:
        """Decide about a /64 for what its addresses did together."""
        may_ban = self.policy.mode != "throttle" and not past.good
        action: Action = crossing.action if may_ban else "throttle"
        protected = self.protection.reason(crossing.subject)
        if protected:
            spared.append((crossing, f"protected: {protected}"))
        elif past.exempt_until > now:
            spared.append((crossing, "exempted by the operator"))
        elif past.until > now and past.action in ("ban", action):
            spared.append((crossing, "already so"))
        elif past.good and crossing.value <= OUTWEIGHS * crossing.threshold:
            spared.append((crossing, f"{past.good} good senders are in it"))
        else:
            why = f"{crossing.value} {_WORDS[crossing.count]} within {Duration(crossing.within)}"
            why += f" of its addresses together, limit {crossing.threshold}"
            level = int(action == "ban")
            until = now + self.policy.network.time
            found = (crossing.subject, crossing.scope, "network", level, until, why)
            decisions.append(Decision(now, action, *found, crossing.value, crossing.threshold))

    def _network(
        self, network: str, scope: Scope, past: NetworkPast, fresh: int, now: float
    ) -> Decision | None:
        settings = self.policy.network
        banned = past.banned + fresh
        in_force = past.action if past.until > now else None
        if banned < settings.soft or in_force == "ban" or past.exempt_until > now:
            return None
        if self.protection.reason(network):
            return None
        why = f"{banned} of its addresses banned within a day"
        if banned >= settings.hard and not past.good:
            until = now + settings.time
            why = f"{why}, nothing good from it in 30 days"
            return Decision(
                now, "ban", network, scope, "network", 1, until, why, banned, settings.hard
            )
        if in_force == "throttle":
            return None
        until = now + settings.time
        return Decision(
            now, "throttle", network, scope, "network", 0, until, why, banned, settings.soft
        )


_UNKNOWN = Past()
_UNKNOWN_NETWORK = NetworkPast()


def offences(past: Past, forget: float, now: float) -> int:
    """Return the bans that still count: one step is forgotten per `forget` seconds of peace."""
    forgotten = int(max(0.0, now - past.last_offence) // forget)
    return max(0, past.offences - forgotten)


def recently_good(past: Past, now: float) -> bool:
    """Tell whether a client did anything good that is still remembered."""
    return past.deliveries > 0 or (past.logins > 0 and now - past.last_login < _LOGIN_COUNTS)


def proven_good(past: Past, now: float) -> str:
    """Return why a client is throttled rather than banned, or ""."""
    if past.delivery_days >= 2:
        return f"it delivered {past.deliveries} messages on {past.delivery_days} days"
    if past.logins and now - past.last_login < _LOGIN_COUNTS:
        return f"it logged in {past.logins} times in 30 days"
    return ""
