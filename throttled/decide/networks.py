"""Judging networks: for what their addresses did together, and for how many were banned. Pure.

A /24 is strangers to each other: it is throttled for what they did together. A /64 is mostly one
host: it is banned as well. Good senders inside exempt neither, they get entries of their own, which
the kernel looks at first (see `exempt`). Owns no state.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from throttled import address
from throttled.decide.protect import Protection
from throttled.duration import Duration
from throttled.model import Crossing, Decision, NetworkPast, Scope
from throttled.settings import Policy

WORDS = {
    "connections": "connections",
    "handshakes": "completed handshakes",
    "errors": "points for errors",
    "callouts": "unknown recipients of sender callouts or bounces",
    "auth_failures": "failed logins",
    "auth_users": "user names tried",
    "messages": "messages",
    "recipients": "recipients",
    "bytes": "bytes",
    "bounces": "bounces",
    "deferrals": "deferrals for its reputation",
    "networks": "networks that it logged in from",
    "received": "messages received",
}

Key = tuple[str, Scope]


class Judge(Struct, frozen=True):
    """What judging a network takes, beside its past."""

    policy: Policy
    protection: Protection

    def together(self, crossing: Crossing, past: NetworkPast, now: float) -> Decision | str:
        """Decide about a network for what its addresses did together, or say why not."""
        banned = crossing.action == "ban" and self.policy.mode_of(crossing.limit) == "enforce"
        action: Literal["ban", "throttle"] = "ban" if banned else "throttle"
        spared = self._spared(crossing.subject, past, action, now)
        if spared:
            return spared
        why = f"{above(crossing)}, of its addresses together"
        place = crossing.subject, crossing.scope
        return self._decision(place, action, why, crossing.value, crossing.threshold, now)

    def banned(
        self, network: str, scope: Scope, past: NetworkPast, fresh: int, now: float
    ) -> Decision | None:
        """Decide about a network of which `fresh` more addresses have just been banned."""
        settings = self.policy.network
        banned = past.banned + fresh
        if banned < settings.soft:
            return None
        action: Literal["ban", "throttle"] = "ban" if banned >= settings.hard else "throttle"
        if self._spared(network, past, action, now):
            return None
        threshold = settings.hard if action == "ban" else settings.soft
        why = f"{banned} of its addresses banned within a day"
        return self._decision((network, scope), action, why, banned, threshold, now)

    def _spared(self, network: str, past: NetworkPast, action: str, now: float) -> str:
        protected = self.protection.reason(network)
        if protected:
            return f"protected: {protected}"
        if past.exempt_until > now:
            return "exempted by the operator"
        if past.until > now and past.action in ("ban", action):
            return "already banned" if past.action == "ban" else "already throttled"
        return ""

    def _decision(  # noqa: PLR0913, PLR0917 - which network, what, why, how much, when
        self,
        place: Key,
        action: Literal["ban", "throttle"],
        why: str,
        value: int,
        threshold: int,
        now: float,
    ) -> Decision:
        settings = self.policy.network
        level = int(action == "ban")
        rate, time = None, settings.time
        if action == "throttle" and settings.throttle is not None:
            rate, time = settings.throttle.as_rate(), settings.throttle.time or time
        found = (*place, "network", level, now + time, why, value, threshold)
        above: Literal["soft", "hard"] = "hard" if action == "ban" else "soft"
        return Decision(now, action, *found, rate=rate, above=above)


def fresh(decisions: Iterable[Decision]) -> dict[Key, int]:
    """Return how many addresses of each network a batch bans for the first time."""
    counts: dict[Key, int] = {}
    for decision in decisions:
        network = address.network_of(decision.subject) if decision.action == "ban" else ""
        if network:
            key = (network, decision.scope)
            # One that was banned before today may be in `past.banned` already.
            counts[key] = counts.get(key, 0) + (decision.level == 1)
    return counts


def exempt(
    network: str, scope: Scope, senders: Sequence[str], until: float, now: float
) -> list[Decision]:
    """Return the entries of good senders in a network that is throttled or banned.

    Args:
        network: which.
        scope: where it is active.
        senders: addresses that are known to be good, see `Store.good_senders`.
        until: when what is active against the network ends.
        now: wall clock.
    """
    why = f"known good sender in {network}, which is throttled or banned"
    return [Decision(now, "exempt", sender, scope, "network", 0, until, why) for sender in senders]


def above(crossing: Crossing) -> str:
    """Return how far a limit was crossed, in words."""
    if crossing.count == "guesses":
        return f"failed logins on {crossing.value} of the accounts under attack"
    which = "hard" if crossing.action == "ban" else "soft"
    text = f"{crossing.value} {WORDS[crossing.count]} within {Duration(crossing.within)}"
    plain = crossing.plain or crossing.threshold
    if crossing.threshold == plain:
        return f"{text}, {which} limit {plain}"
    extra = crossing.threshold - plain
    return f"{text}, {which} limit {plain} and {extra} for good evidence"
