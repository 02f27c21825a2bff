"""What becomes here of bans and unbans of other hosts of the fleet. Pure.

A peer may be wrong or hostile. So what protects a client from the ladder protects it here too, good
evidence makes of a ban a throttle, and a peer whose bans hit many good clients can only throttle
for an hour. A peer's ban never presses the brake of the ladder, never leads to a decision about a
network, and nothing is longer than `longest`.

Owns a brake and a meter of unbans for each peer. Limits: the caller's number of peers.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from throttled import address
from throttled.decide import meter
from throttled.decide.allowance import remembered
from throttled.decide.ladder import OPERATOR, Ladder, offences
from throttled.decide.networks import Key, above
from throttled.decide.origins import Origin, throttled
from throttled.model import Crossing, Decision, Past, Scope
from throttled.settings import Believe

#: The widest networks that a peer's operator may ban here, by IP version.
WIDEST = {4: 24, 6: 48}
#: Unbans of one peer that count in a minute.
UNBANS = 100
#: The longest exemption that a peer's unban gives.
EXEMPT = 3600.0
_WINDOW = 60.0
#: Two ends that differ by less are the same: times are whole seconds on the wire.
_GRAIN = 1.0
#: Limits whose bans a host decides by what others did, or not by what the client did.
NOT_SHARED = frozenset({"network", "ladder", "overload"})
#: The limit of a ban whose limit this host does not have.
UNKNOWN_LIMIT = "peer"

Outcome = Literal[
    "banned", "throttled", "known", "protected", "exempt", "reported", "refused", "expired", "most"
]


class PeerBan(Struct, frozen=True, gc=False):
    """A ban that a peer published."""

    subject: str  # as it came: not canonical, or no address at all
    scope: Scope
    seconds: float  # left now
    limit: str
    level: int
    value: int
    threshold: int
    action: Literal["ban", "throttle"] = "ban"
    why: str = ""  # of what this host counted; "": the peer's reason
    at: float = inf  # when it was published, wall clock of this host


class PeerRuling(Struct, frozen=True):
    """What became of a batch of a peer's bans."""

    decisions: list[Decision]  # at most one a subject and scope
    outcomes: Counter[Outcome] = field(default_factory=Counter)


class _Peer(Struct):
    origin: Origin = field(default_factory=Origin)
    unbans: int = 0  # a meter


class Peers:
    """The judge of what peers publish."""

    def __init__(self, ladder: Ladder) -> None:
        """Judge by the policy and the protection of a ladder, whatever they are then."""
        self._ladder = ladder
        self._peers: dict[str, _Peer] = {}

    def keys(self, bans: Sequence[PeerBan]) -> list[Key]:
        """Return whose past `judge` needs."""
        return list({(b.subject, b.scope): None for b in bans if acceptable(b)})

    def judge(  # noqa: PLR0913 - what a peer says, and what is known here
        self,
        peer: str,
        bans: Sequence[PeerBan],
        pasts: Mapping[Key, Past],
        now: float,
        *,
        believe: Believe,
        room: int,
        exposed: Collection[Key] = (),
    ) -> PeerRuling:
        """Decide about what a peer banned.

        Args:
            peer: its name.
            bans: what it published.
            pasts: what the store knows of `keys`.
            now: wall clock.
            believe: what a peer's ban becomes at most.
            room: how many more entries may come from this peer.
            exposed: networks with good clients inside that a ban would hit.
        """
        ruling = PeerRuling([])
        found: dict[Key, tuple[Decision, bool]] = {}
        protection, protected = self._ladder.protection, dict[str, str]()
        for ban in bans:
            key = (ban.subject, ban.scope)
            past = pasts.get(key, _UNKNOWN)
            # Whose past is known has a subject that is acceptable; this ban may be another's.
            allowed = _may_name(ban) if key in pasts else acceptable(ban)
            decided = found[key][0] if key in found else None
            if allowed and ban.subject not in protected:  # each comes twice, for two scopes
                protected[ban.subject] = protection.reason(ban.subject)
            if not allowed:
                outcome: Outcome | None = "refused"
            elif protected[ban.subject] and ban.seconds > 0:
                outcome = "protected"
            else:
                outcome = _spared(ban, decided, past, now)
            if not outcome and believe == "report":
                outcome = "reported"
            if not outcome and key not in found and len(found) >= room:
                outcome = "most"
            if outcome:
                ruling.outcomes[outcome] += 1
            else:
                good = has_good_evidence(past, now) or key in exposed
                found[key] = self._decision(peer, ban, now, weak=believe == "throttle"), good
        settled = self._peer(peer).origin.settle(
            found, pasts, self._ladder.policy, now, bans=f"{peer} banned", whose=peer
        )
        for what, decision in settled:
            ruling.outcomes[what] += 1
            if what != "known":
                ruling.decisions.append(decision)
        return ruling

    def crossed(
        self, peer: str, crossings: Sequence[Crossing], pasts: Mapping[Key, Past], now: float
    ) -> list[PeerBan]:
        """Return what the ladder has for limits that names tried at a peer crossed, for `judge`.

        It is the peer's doing, so it is judged, counted and removed like a ban of the peer's.
        """
        found = []
        for crossing in crossings:
            past = pasts.get((crossing.subject, crossing.scope), _UNKNOWN)
            level, seconds = 0, float(self._ladder.policy.throttle.time)
            if crossing.action == "ban":
                level = offences(past, self._ladder.policy.ban.forget, now) + 1
                seconds = self._ladder.next_ban(past, now, crossing.limit)
            what = crossing.subject, crossing.scope, seconds, crossing.limit, level
            why = f"{above(crossing)}; the last of them at {peer}"
            action: Literal["ban", "throttle"] = "ban" if crossing.action == "ban" else "throttle"
            found.append(PeerBan(*what, crossing.value, crossing.threshold, action, why))
        return found

    def braked(self, peer: str, now: float) -> bool:
        """Return whether a peer's bans are throttles."""
        known = self._peers.get(peer)
        return known is not None and known.origin.braked(now)

    def release(self, peer: str) -> None:
        """Release the brake of a peer: an operator looked at it."""
        self._peers.pop(peer, None)

    def unbans(self, peer: str, count: int, now: float) -> int:
        """Return how many of a peer's unbans count now; the others never do."""
        known = self._peer(peer)
        tick = int(now * meter.EIGHTHS / _WINDOW)
        moved = meter.advance(known.unbans, tick)
        allowed = max(0, min(count, UNBANS - meter.total(moved)))
        known.unbans, _ = meter.add(moved, tick, allowed)
        return allowed

    def _peer(self, name: str) -> _Peer:
        return self._peers.setdefault(name, _Peer())

    def _decision(self, peer: str, ban: PeerBan, now: float, *, weak: bool) -> Decision:
        policy = self._ladder.policy
        limit = ban.limit
        if limit != OPERATOR and limit not in policy.limits:
            limit = UNKNOWN_LIMIT
        why = ban.why or f"banned by {peer}"
        if limit != OPERATOR and not ban.why:
            why += f" for {ban.limit}: {ban.value}, limit {ban.threshold}"
        found = Decision(
            now,
            "ban",
            ban.subject,
            ban.scope,
            limit,
            ban.level,
            now + ban.seconds,
            why,
            ban.value,
            ban.threshold,
            origin=f"peer:{peer}",
        )
        if ban.action == "throttle":
            return replace(found, action="throttle", above="soft")
        if weak or policy.mode_of(limit) != "enforce":
            return throttled(found, "this host only throttles what peers ban", policy)
        return found


def _spared(ban: PeerBan, decided: Decision | None, past: Past, now: float) -> Outcome | None:
    """Return why nothing is decided about a ban of who is not protected; None: something is."""
    if ban.seconds <= 0:
        return "expired"
    if past.exempt_until > now:
        return "exempt"
    until = now + ban.seconds
    banned = past.until if past.action in {"ban", ban.action} else 0.0
    if until < max(banned, decided.until if decided else 0.0) + _GRAIN:
        return "known"
    return None


def acceptable(ban: PeerBan) -> bool:
    """Return whether a peer may publish such a ban: its subject is canonical and not too wide."""
    return _may_name(ban) and _acceptable(ban.subject)


@lru_cache(maxsize=1024)  # each is banned in two scopes, one after the other
def _acceptable(subject: str) -> bool:
    try:
        packed, prefix = address.parse(subject)
    except ValueError:
        return False
    if address.text(packed, prefix) != subject:
        return False
    if not address.is_network(subject):
        return True
    # An IPv6 prefix that embeds IPv4 addresses holds clients that have nothing in common.
    shared = not address.network_of(address.unpack(packed))
    return prefix >= WIDEST[address.version(subject)] and not shared


def _may_name(ban: PeerBan) -> bool:
    """Return whether a ban may name its limit: networks are banned by operators alone."""
    if ban.limit in NOT_SHARED:
        return False
    return ban.limit == OPERATOR or not address.is_network(ban.subject)


def has_good_evidence(past: Past, now: float) -> bool:
    """Return whether good evidence of any kind speaks for a client."""
    if not (past.deliveries or past.logins):  # nearly all
        return False
    return remembered("errors", past, now) > 0 or remembered("auth_failures", past, now) > 0


_UNKNOWN = Past()
