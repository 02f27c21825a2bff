"""What becomes of the entries of an imported list. Pure.

A list may be wrong or come from somebody else. As with entries of peers (`peers`), what protects a
client from the ladder protects it here too, good evidence makes of a ban a short throttle, and a
list that would ban many good clients at once only throttles for an hour. An entry of a list never
shortens or weakens what is active, and leads to no decision about a network around it.

Owns a brake for each list; the caller bounds their number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from throttled import address
from throttled.decide.ladder import OPERATOR, Ladder
from throttled.decide.networks import Key
from throttled.decide.origins import Origin, Settled
from throttled.decide.peers import has_good_evidence
from throttled.model import RESTRICTING, Decision, Past, Scope

#: The widest networks of a list, whatever the operator forces, by bytes of an address.
WIDEST = {4: 8, 16: 16}
_GRAIN = 1.0


def origin(name: str) -> str:
    """Return the origin of what came from a list."""
    return f"list:{name}"


class Listed(Struct, frozen=True):
    """An entry of a list in one scope."""

    subject: str  # canonical
    scope: Scope
    action: Literal["ban", "throttle"]
    seconds: float
    why: str


class Judged(Struct, frozen=True):
    """What became of entries."""

    decisions: list[Decision]
    refused: dict[int, str]  # by place: why
    outcomes: Counter[Settled]


class Lists:
    """The judge of what lists contain."""

    def __init__(self, ladder: Ladder) -> None:
        """Judge by the policy and the protection of a ladder, whatever they are then."""
        self._ladder = ladder
        self._lists: dict[str, Origin] = {}

    def judge(
        self, name: str, entries: Sequence[Listed], pasts: Mapping[Key, Past], now: float
    ) -> Judged:
        """Decide about entries.

        Args:
            name: of the list.
            entries: some of it; of two of the same subject and scope the last counts.
            pasts: what the store knows of their subjects.
            now: wall clock.
        """
        judged = Judged([], {}, Counter())
        found: dict[Key, tuple[Decision, bool]] = {}
        for at, entry in enumerate(entries):
            key = entry.subject, entry.scope
            past = pasts.get(key, _UNKNOWN)
            if refused := self._refused(entry, past, now):
                judged.refused[at] = refused
            elif _stands(entry, past, now):
                judged.outcomes["known"] += 1
            else:
                found[key] = self._decision(name, entry, now), has_good_evidence(past, now)
        settled = self._lists.setdefault(name, Origin()).settle(
            found,
            pasts,
            self._ladder.policy,
            now,
            bans=f"the list {name} would ban",
            whose="the list",
        )
        for what, decision in settled:
            judged.outcomes[what] += 1
            if what != "known":
                judged.decisions.append(decision)
        return judged

    def _refused(self, entry: Listed, past: Past, now: float) -> str:
        if address.is_named(entry.subject):
            return "a list by name has addresses and networks only"
        packed, prefix = address.parse(entry.subject)
        if prefix < WIDEST[len(packed)]:
            return f"wider than /{WIDEST[len(packed)]}: that is a large part of the Internet"
        if protected := self._ladder.protection.reason(entry.subject):
            return f"protected: {protected}"
        return "exempted by an operator" if past.exempt_until > now else ""

    def _decision(self, name: str, entry: Listed, now: float) -> Decision:
        until, why = now + entry.seconds, entry.why or f"on the list {name}"
        what = entry.action, entry.subject, entry.scope, OPERATOR, 0, until, why
        decision = Decision(now, *what, origin=origin(name))
        if decision.action == "ban" and self._ladder.policy.mode == "throttle":
            return replace(decision, action="throttle", why=f"{why}; not banned: mode is throttle")
        return decision


def _stands(entry: Listed, past: Past, now: float) -> bool:
    """Return whether what is active is as strong as an entry, and not shorter."""
    if past.until <= now or past.action not in RESTRICTING:
        return False
    if entry.action == "throttle" and (past.action == "ban" or past.rate is not None):
        return True
    if entry.action == "ban" and past.action == "throttle":
        return False
    return now + entry.seconds < past.until + _GRAIN


_UNKNOWN = Past()
