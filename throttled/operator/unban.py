"""`unban`: remove entries, exempt a client, and name what in the kernel still blocks it.

The answer depends on the elements in the kernel, whatever the store says: those of the client and
of every network around it; those of networks do not apply to an exempt address. `unban --all` is
in `unban_all`.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from throttled import address
from throttled.control.requests import Unban
from throttled.control.results import ChangeResult
from throttled.control.server import Peer
from throttled.decide.ladder import OPERATOR
from throttled.duration import Duration
from throttled.enforce.backend import Backend
from throttled.errors import BackendError, RefusedError, StoreError
from throttled.model import DONE, RESTRICTING, Decision, Element, Entry, Scope, Snapshot
from throttled.operator.desk import Desk, scopes_of
from throttled.store.store import Filter

log = logging.getLogger(__name__)


async def unban(desk: Desk, request: Unban, _peer: Peer) -> ChangeResult:
    """Unban a subject; it is confirmed only if nothing in the kernel blocks it any more.

    Raises:
        RefusedError: it was neither throttled nor banned itself.
        BackendError: without a daemon: the kernel cannot be asked.
    """
    subject, scopes = request.subject, scopes_of(request.scope)
    await desk.remove_leftovers()
    moment = desk.clock()
    rows = [row for row in desk.active(subject) if row.scope in scopes]
    entries = [Entry(subject, scope, action, 0.0) for scope in scopes for action in RESTRICTING]
    if not desk.enforceable(subject):
        entries = []
    before = desk.lookup(entries)
    until = exempt_until(scopes, rows, request.exempt and moment.wall + request.exempt)
    rows = [row for row in rows if row.action != "exempt"]
    proxied = any(
        row.subject == subject for row in desk.pipeline.behind.active(moment.wall, subject)
    )
    later = unrecorded(desk, desk.unusable)
    for scope in scopes:
        try:
            desk.pipeline.unban(subject, scope, moment, until.get(scope, 0.0))
        except StoreError as error:  # a full disk must not keep anybody banned
            later = unrecorded(desk, error)
    desk.pipeline.enforcer.apply(entries, moment)
    exempted = exemptions(subject, until, moment.wall)
    desk.pipeline.decide(exempted, moment)
    still = _blocking(desk, subject, scopes)
    if not rows and before == [] and not proxied and not request.exempt:
        message = f"{subject} is neither throttled nor banned"
        if still:
            raise RefusedError(f"{message} itself, but {sentence(still)}")
        raise RefusedError(message, _hint(desk, subject))
    message, confirmed = _outcome(desk, subject, still)
    if confirmed:
        begun = exempted if request.exempt else []
        keys = [(row.subject, row.scope) for row in rows]
        desk.announce([*releases(keys, moment.wall), *begun], notice=True)
    if request.exempt:
        message += f"; exempt for {Duration(request.exempt)}"
        if address.is_network(subject):
            message += f"; its addresses are still judged one by one, `throttled allow {subject}`"
            message += " exempts them all"
    return ChangeResult(rows, confirmed, message + later)


def unrecorded(desk: Desk, error: StoreError | None) -> str:
    """Say what it means that an unban could not be written to the store; "" if it could."""
    if error is None:
        return ""
    if desk.running is None:
        return f"; but {error.message}: the next start of the daemon restores the ban"
    log.error("%s; unbans are recorded later. %s", error.message, error.hint)
    return (
        f"; will be recorded when the store works again ({error.message}), "
        "lost if the daemon stops first"
    )


def _blocking(desk: Desk, subject: str, scopes: Sequence[Scope]) -> list[Element] | None:
    """Return what of the kernel blocks a subject; None where the kernel cannot be asked."""
    if not desk.enforceable(subject):
        return []
    if desk.running and desk.protection.reason(subject) and not desk.error:
        return []  # the rules let it pass before any entry is looked at
    try:
        return blocking(desk.backend, subject, scopes)
    except BackendError as error:
        if desk.running is None:
            raise
        log.error("%s. %s", error.message, error.hint)
        return None


def _outcome(desk: Desk, subject: str, still: list[Element] | None) -> tuple[str, bool]:
    """Say whether a subject is unbanned; and return whether it is so."""
    if desk.leftover is not None:
        return f"{subject} is unbanned, but {desk.leftover.what}", False
    if still is None or any(element.subject == subject for element in still):
        return f"{subject} is not unbanned in the kernel: {desk.refusal()}", False
    if still:
        return f"{subject} is unbanned itself, but {sentence(still)}", False
    return unbanned(subject, would=desk.observing), True


def _hint(desk: Desk, subject: str) -> str:
    """Say what else may block a subject that is neither throttled nor banned."""
    network = address.network_of(subject)
    if network and desk.store.listing.total(desk.clock().wall, Filter(within=network)):
        return f"something in {network} is: see `throttled list {network}`"
    return "nothing to do; `throttled explain` shows what is known of it"


def blocking(backend: Backend, subject: str, scopes: Sequence[Scope]) -> list[Element]:
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
    elements = sorted(backend.lookup(asked), key=lambda one: (place[one.subject], one.action))
    exempt = {each.scope for each in elements if each.action == "exempt"}
    return [
        each
        for each in elements
        if each.action != "exempt" and (each.subject == subject or each.scope not in exempt)
    ]


def unbanned(subject: str, *, would: bool) -> str:
    """Say that a subject is unbanned, or, where the daemon only observes, that it would be."""
    if would:
        return f"{subject} would be unbanned; observing, nothing is enforced"
    return f"{subject} is unbanned"


def sentence(still: Sequence[Element]) -> str:
    """Say what still blocks a subject, and which command unbans that.

    Args:
        still: what `blocking` returned, at least one.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for element in still:
        found.setdefault(element.subject, {}).setdefault(DONE[element.action], []).append(
            element.scope
        )
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
        rows: what is active: an operator's exemption continues unless another one is asked for.
        asked: until when it shall be exempt; 0.0 = nothing was said of it.
    """
    if asked:
        return dict.fromkeys(scopes, asked)
    return {r.scope: r.until for r in rows if r.action == "exempt" and r.limit == OPERATOR}


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


def releases(
    keys: Iterable[tuple[str, Scope]], wall: float, why: str = "unbanned"
) -> list[Decision]:
    """Return the decisions as which an unban of these subjects is announced."""
    return [
        Decision(wall, "release", subject, scope, OPERATOR, 0, wall, why, origin=OPERATOR)
        for subject, scope in keys
    ]
