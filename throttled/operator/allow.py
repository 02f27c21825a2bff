"""`allow`, `resolve`, `disallow`: the operator's allowlist.

With a daemon the rules of the kernel follow at once. Without one they follow at its next start;
what is active against an allowed subject is unbanned at once all the same.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from throttled import address
from throttled.control.requests import Allow, Allowed, Disallow, Resolve
from throttled.control.results import AllowedResult, AllowRow, ChangeResult
from throttled.control.server import Peer
from throttled.errors import RefusedError
from throttled.model import SCOPES
from throttled.operator.desk import Desk
from throttled.operator.senders import masked, visible
from throttled.operator.unban import blocking, releases, sentence
from throttled.store.store import Filter

_LATER = "; the rules in the kernel follow when the daemon starts"


async def allow(desk: Desk, request: Allow, _peer: Peer) -> ChangeResult:
    """Put a subject or a host name on the allowlist, and unban what is in it.

    Raises:
        RefusedError: the list is full.
        StoreError: it could not be recorded.
    """
    what = request.what
    store_entry(desk, what, request.seconds, request.note)
    if address.is_named(what):
        return _allow_sender(desk, what)
    named = address.is_subject(what)
    removed = desk.store.listing.snapshots(desk.clock().wall, Filter(within=what)) if named else []
    confirmed, more = await _protect(desk, [what] if named else [])
    message = f"{what} is allowed{more}"
    if not confirmed:
        return ChangeResult([], False, message)
    if not named:
        message += "; existing throttles and bans remain: see `throttled list`"
    if desk.observing:
        message += f"; only in observe mode: to enforce it, add {what} to [protect]"
    return ChangeResult(removed, True, message)


def _allow_sender(desk: Desk, what: str) -> ChangeResult:
    """Let limits of senders spare an account, user, mailbox or domain from now on."""
    desk.reconfigure()
    moment, rows = desk.clock(), desk.active(what)
    decisions = releases([(what, row.scope) for row in rows], moment.wall, "allowed")
    desk.pipeline.decide(decisions, moment)
    desk.announce(decisions, notice=True)
    return ChangeResult(rows, True, f"{what} is allowed: it is not reported, throttled or banned")


def store_entry(desk: Desk, what: str, seconds: float | None, note: str) -> None:
    """Put something on the allowlist; it counts once the desk is reconfigured.

    Raises:
        RefusedError: the list is full.
        StoreError: it could not be recorded.
    """
    wall = desk.clock().wall
    desk.store.allowlist.allow(what, wall + seconds if seconds else 0.0, note, wall)


async def resolve(desk: Desk, request: Resolve, _peer: Peer) -> ChangeResult:
    """Put a host name on the allowlist by its addresses, and unban these.

    Raises:
        RefusedError: the list is full, or a name to refresh is not on it.
        StoreError: it could not be recorded.
    """
    wall = desk.clock().wall
    until = wall + request.seconds if request.seconds else 0.0
    kept = None if request.refresh else (until, request.note)
    changed = desk.store.allowlist.resolve(request.what, request.addresses, kept, wall)
    removed = [row for each in request.addresses for row in desk.active(each)]
    confirmed, more = await _protect(desk, request.addresses)
    message = resolved(request, *changed) + more
    if desk.observing:
        message += "; only in observe mode"
    return ChangeResult(removed if confirmed else [], confirmed, message)


def resolved(request: Resolve, added: Sequence[str], removed: Sequence[str]) -> str:
    """Return what became of a `Resolve`, as a sentence."""
    message = f"{request.what} is allowed by its addresses in DNS ({len(request.addresses)})"
    message += f"; added: {', '.join(added)}" if added else ""
    return message + (f"; removed: {', '.join(removed)}" if removed else "")


async def _protect(desk: Desk, subjects: Sequence[str]) -> tuple[bool, str]:
    """Apply the changed allowlist; return whether the kernel took it, and what to add."""
    desk.reconfigure()
    settled = await desk.protected.settled()
    if desk.error is not None:
        return False, f", but the kernel's rules are unchanged: {desk.refusal()}"
    if not settled:
        return True, "; its entries remain listed until the database works"
    if desk.running is not None:
        return True, ""
    still = [element for each in subjects for element in blocking(desk.backend, each, SCOPES)]
    if still:
        return False, f" once the daemon runs, but {sentence(still)}"
    return True, _LATER


def disallow(desk: Desk, request: Disallow, _peer: Peer) -> ChangeResult:
    """Take an entry from the allowlist.

    Raises:
        RefusedError: it is not on it.
        StoreError: that could not be recorded.
    """
    what = request.what
    if not desk.store.allowlist.disallow(what):
        hint = "see `throttled allow`; the configuration's own entries are in [protect]"
        raise RefusedError(f"{what} is not on the allowlist", hint)
    desk.reconfigure()
    if desk.error is not None:
        message = f"{what} is no longer allowed, but the kernel's rules still allow it"
        return ChangeResult([], False, f"{message}: {desk.refusal()}")
    message = f"{what} is no longer allowed" + ("" if desk.running else _LATER)
    reason = desk.protection.reason(what) if address.is_subject(what) else ""
    message += f"; but it is still protected: {reason}" if reason else ""
    return ChangeResult([], True, message)


def allowed(desk: Desk, _request: Allowed, peer: Peer) -> AllowedResult:
    """Return the allowlist, without the names of accounts for who may not see them."""
    found = rows(desk)
    if not visible(desk, peer):
        found = [replace(row, what=masked(row.what)) for row in found]
    return AllowedResult(found)


def rows(desk: Desk) -> list[AllowRow]:
    """Return the entries of the allowlist as they are shown."""
    return [
        AllowRow(r.what, r.since, r.until or None, r.note, r.name, r.missing or None)
        for r in desk.store.allowlist.entries(desk.clock().wall)
    ]
