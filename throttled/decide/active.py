"""What is active against each subject of one scope, and what was excused. Pure.

A client that is banned need not be judged by every further line, nor one that is throttled by every
further line that asks for the same throttle. One that a limit spared is judged again by that limit
when its value is higher than what was excused; what one limit spared says nothing of another.

Owns both tables. Times are on the engine's clock.
"""

from math import inf

from msgspec import Struct

from throttled.decide.tables import Generations
from throttled.model import Action

#: How long it is remembered what is active, at least. Longer bans are asked of the store again.
_DAY = 86400.0


class InForce(Struct, frozen=True, gc=False):
    """What is active against a subject."""

    banned_until: float = 0.0
    banned_since: float = inf  # since when the kernel drops its packets; `inf`: it does not
    throttled_until: float = 0.0
    pace: float = inf  # connections a second that the throttle allows


class Excuse(Struct, frozen=True, gc=False):
    """What was spared a subject in one limit."""

    action: Action
    value: int  # up to which
    until: float


class Active:
    """What is active and what was excused."""

    def __init__(self, cap: int) -> None:
        self._in_force: Generations[str, InForce] = Generations(_DAY, cap)
        self._excused: Generations[tuple[str, str], Excuse] = Generations(_DAY, cap)

    def ban(self, subject: str, until: float, at: float, *, enforced: bool) -> None:
        """Learn of a ban; `enforced`: the kernel drops the packets."""
        known = self._in_force.get(subject) or _NOTHING
        since = at if enforced else inf
        ban = InForce(until, since, known.throttled_until, known.pace)
        self._in_force.put(subject, ban, at)

    def throttle(self, subject: str, until: float, at: float, pace: float) -> None:
        """Learn of a throttle."""
        known = self._in_force.get(subject) or _NOTHING
        throttle = InForce(known.banned_until, known.banned_since, until, pace)
        self._in_force.put(subject, throttle, at)

    def excuse(self, subject: str, limit: str, what: Excuse, at: float) -> None:
        """Learn what was spared a subject in one limit."""
        self._excused.put((subject, limit), what, at)

    def get(self, subject: str) -> InForce | None:
        """Return what is active; its times may have passed."""
        return self._in_force.get(subject)

    def until(self, subject: str, at: float) -> float:
        """Return when what is active ends; 0.0: nothing is."""
        known = self._in_force.get(subject) or _NOTHING
        until = max(known.banned_until, known.throttled_until)
        return until if until > at else 0.0

    def excuses(self, subject: str, limit: str, action: Action, value: int, at: float) -> bool:
        """Return whether what a value asks for in a limit has been spared."""
        known = self._excused.get((subject, limit))
        if known is None or at >= known.until or value > known.value:
            return False
        return action in (known.action, "throttle")

    def release(self, subject: str) -> None:
        """Learn that nothing is active any more; what was excused stays so."""
        self._in_force.pop(subject)

    def reset(self, subject: str, limits: set[str]) -> None:
        """Reset what is active against a subject, and what limits spared it."""
        self._in_force.pop(subject)
        for limit in limits:
            self._excused.pop((subject, limit))

    def subjects(self) -> set[str]:
        """Return the subjects against which anything is active, or that were spared anything."""
        excused = {subject for (subject, _), _ in self._excused.items()}
        return excused.union(subject for subject, _ in self._in_force.items())

    def clear(self) -> None:
        """Forget everything."""
        self._in_force.clear()
        self._excused.clear()


_NOTHING = InForce()
