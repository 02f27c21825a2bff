"""Bans that come from elsewhere, from a peer or a list, against what is known here. Pure.

Good evidence makes of such a ban a short throttle, and an origin that would ban many good clients
at once only throttles for an hour. A throttle never weakens a ban that is active.

Owns the brake of one origin.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec.structs import replace

from throttled.decide.brake import Brake
from throttled.decide.networks import Key
from throttled.model import Decision, Past
from throttled.settings import Policy

_BRAKED = 3600.0
_UNKNOWN = Past()

Settled = Literal["banned", "throttled", "known"]


class Origin:
    """A peer or a list."""

    def __init__(self) -> None:
        """Begin without a brake."""
        self._brake = Brake()
        self._braked_until = 0.0  # wall clock

    def braked(self, now: float) -> bool:
        """Return whether its bans are throttles."""
        return now < self._braked_until <= now + _BRAKED

    def settle(  # noqa: PLR0913 - what it decided, what is known, and how that is named
        self,
        found: Mapping[Key, tuple[Decision, bool]],
        pasts: Mapping[Key, Past],
        policy: Policy,
        now: float,
        *,
        bans: str,
        whose: str,
    ) -> Iterator[tuple[Settled, Decision]]:
        """Yield what is decided, and what it came to; of "known" nothing is decided.

        Args:
            found: decisions by subject and scope, and whether good evidence speaks for them.
            pasts: what the store knows of their subjects.
            policy: with the brake and the time of throttles.
            now: wall clock.
            bans: that it bans, for the alert of the brake.
            whose: the brake is, for reasons.
        """
        good = [(d.subject, d.limit) for d, known in found.values() if known and d.action == "ban"]
        count = self._brake.press(good, now, policy.protect.brake)
        alert = ""
        if count:
            self._braked_until = now + _BRAKED
            alert = f"brake: {bans} {count} clients with good history here; for an hour its bans "
            alert += "are throttles"
        braked = self.braked(now)
        for key, (decision, known) in found.items():
            acted = decision
            if decision.action == "ban" and (known or braked):
                why = "it has good history here" if known else f"the brake of {whose} is on"
                acted = replace(throttled(decision, why, policy), alert=alert)
            if acted.action == "throttle" and _banned(pasts.get(key, _UNKNOWN), now):
                yield "known", acted
            else:
                yield "banned" if acted.action == "ban" else "throttled", acted


def throttled(ban: Decision, why: str, policy: Policy) -> Decision:
    """Return the throttle that a ban becomes, and why it does."""
    until = min(ban.until, ban.time + policy.throttle.time)
    return replace(
        ban, action="throttle", level=0, until=until, why=f"{ban.why}; not banned: {why}"
    )


def _banned(past: Past, now: float) -> bool:
    """Return whether a client is banned, which a throttle would weaken."""
    return past.action == "ban" and past.until > now
