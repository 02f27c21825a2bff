"""What an unban removes, whom it exempts, and what in the kernel still blocks a client after it.

An operator's word to a customer ("you are unbanned") must be true: what counts is what the kernel
holds, whatever the store says: entries of the client and of every network around it; those of
networks do not apply to an exempt address. Used by the daemon and by the commands without one.
Owns nothing.
"""

from collections.abc import Mapping, Sequence

from throttled import address
from throttled.decide.ladder import OPERATOR
from throttled.enforce.backend import Backend
from throttled.model import Action, Decision, Entry, Scope, Seen, Snapshot

#: What an unban removes.
RESTRICTING: tuple[Action, ...] = ("throttle", "ban")
_WORDS: dict[Action, str] = {"ban": "banned", "throttle": "throttled"}


def blocking(backend: Backend, subject: str, scopes: Sequence[Scope]) -> list[Seen]:
    """Return the kernel's entries that throttle or ban a subject, the narrowest first.

    A network is asked for of every length, as a set may hold any: some hundred questions, a few
    milliseconds.

    Args:
        backend: the kernel.
        subject: a canonical address or network.
        scopes: where.

    Raises:
        BackendError: the kernel cannot be asked.
    """
    around = address.around(subject)
    asked = [
        Entry(s, scope, action, 0.0) for s in around for scope in scopes for action in RESTRICTING
    ]
    if not address.is_network(subject):
        asked += [Entry(subject, scope, "exempt", 0.0) for scope in scopes]
    place = {each: number for number, each in enumerate(around)}
    seen = sorted(backend.lookup(asked), key=lambda seen: (place[seen.subject], seen.action))
    exempt = {each.scope for each in seen if each.action == "exempt"}
    return [
        each
        for each in seen
        if each.action != "exempt" and (each.subject == subject or each.scope not in exempt)
    ]


def unbanned(subject: str, *, would: bool) -> str:
    """Say that a subject is unbanned, or, where the daemon only observes, that it would be."""
    if would:
        return f"{subject} would be unbanned; observing, nothing is enforced"
    return f"{subject} is unbanned"


def sentence(still: Sequence[Seen]) -> str:
    """Say what still blocks a subject, and which command unbans that.

    Args:
        still: what `blocking` returned, at least one.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for seen in still:
        found.setdefault(seen.subject, {}).setdefault(_WORDS[seen.action], []).append(seen.scope)
    each = [
        f"{verb} by {subject} in {' and '.join(scopes)}"
        for subject, verbs in found.items()
        for verb, scopes in verbs.items()
    ]
    commands = ", ".join(f"throttled unban {subject}" for subject in found)
    return f"still {', '.join(each)}; to unban that too: {commands}"


def exempt_until(
    scopes: Sequence[Scope], rows: Sequence[Snapshot], asked: float
) -> dict[Scope, float]:
    """Return until when an unban exempts its subject, by scope; where it does not, none.

    Args:
        scopes: of the unban.
        rows: what is in force: an exemption goes on unless another one is asked for.
        asked: until when it shall be exempt; 0.0 = nothing was said of it.
    """
    if asked:
        return dict.fromkeys(scopes, asked)
    return {row.scope: row.until for row in rows if row.action == "exempt"}


def exemptions(subject: str, until: Mapping[Scope, float], wall: float) -> list[Decision]:
    """Return the decisions that exempt an address; none for a network: its addresses are judged."""
    if address.is_network(subject):
        return []
    return [
        Decision(
            wall, "exempt", subject, scope, OPERATOR, 0, end, "unbanned and exempt", origin=OPERATOR
        )
        for scope, end in until.items()
    ]
