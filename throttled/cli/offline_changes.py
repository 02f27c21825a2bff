"""What can be changed without a running daemon: unban, allow, disallow, on store and kernel.

Owns no state.
"""

from collections.abc import Sequence
from contextlib import suppress

from throttled import address
from throttled.control.protocol import (
    Allow,
    ChangeResult,
    Disallow,
    Request,
    Resolve,
    Unban,
    UnbanAll,
    resolved,
)
from throttled.enforce.backend import Backend
from throttled.errors import BackendError, RefusedError
from throttled.model import SCOPES, Entry, Scope, Seen, Snapshot
from throttled.operator.unban import (
    RESTRICTING,
    blocking,
    exempt_until,
    exemptions,
    sentence,
    unbanned,
)
from throttled.settings import Duration
from throttled.store.store import Filter, Store

_LATER = "the firewall's own list follows when the daemon runs"


def change(store: Store, backends: Sequence[Backend], request: Request, now: float) -> ChangeResult:
    """Do what is asked.

    Args:
        store: the database that it is about.
        backends: those whose entries belong to it.
        request: an unban, allow or disallow.
        now: wall clock.

    Raises:
        RefusedError: there was nothing to change, or the allowlist is full.
        StoreError: it could not be recorded.
        BackendError: the kernel could not be asked; nothing was changed.
    """
    match request:
        case Unban():
            return _unban(store, backends, request, now)
        case UnbanAll():
            return _unban_all(store, backends, request.scope, now)
        case Allow():
            return _allow(store, backends, request, now)
        case Resolve():
            return _resolve(store, backends, request, now)
        case Disallow():
            if store.disallow(request.what):
                told = f"{request.what} is no longer allowed; {_LATER}"
                return ChangeResult([], confirmed=True, message=told)
            hint = "see `throttled allow`; what the file allows is in its [protect]"
            raise RefusedError(f"{request.what} was not allowed by hand", hint)
        case _:
            raise AssertionError(request)


def _allow(store: Store, backends: Sequence[Backend], request: Allow, now: float) -> ChangeResult:
    what = request.what
    store.allow(what, now + request.seconds if request.seconds else 0.0, request.note, now)
    if not address.is_subject(what):
        return ChangeResult([], confirmed=True, message=f"{what} is allowed from the next start on")
    lifted, blocked = _lift(store, backends, [what], now)
    if blocked:
        told = f"{what} is allowed once the daemon runs, but {blocked}"
        return ChangeResult(lifted, confirmed=False, message=told)
    return ChangeResult(lifted, confirmed=True, message=f"{what} is allowed; {_LATER}")


def _resolve(
    store: Store, backends: Sequence[Backend], request: Resolve, now: float
) -> ChangeResult:
    until = now + request.seconds if request.seconds else 0.0
    kept = None if request.refresh else (until, request.note)
    told = resolved(request, *store.resolve(request.what, request.addresses, kept, now))
    lifted, blocked = _lift(store, backends, request.addresses, now)
    told += f"; but only once the daemon runs: {blocked}" if blocked else f"; {_LATER}"
    return ChangeResult(lifted, not blocked, told)


def _lift(
    store: Store, backends: Sequence[Backend], subjects: Sequence[str], now: float
) -> tuple[list[Snapshot], str]:
    """Unban all within some subjects; return (the first of) them, and what blocks these still."""
    lifted: list[Snapshot] = []
    still: list[Seen] = []
    try:
        for subject in subjects:
            first: list[Snapshot] = []
            while rows := store.snapshots(now, Filter(within=subject)):
                for row in rows:
                    store.forget(row.subject, row.scope, now)
                _remove(backends, [(row.subject, row.scope) for row in rows])
                first = first or rows
            lifted += first
            still += _blocking(backends, subject, SCOPES)
    except BackendError as error:
        return lifted, f"now: {error.message}"
    return lifted, sentence(still) if still else ""


def _remove(backends: Sequence[Backend], keys: Sequence[tuple[str, Scope]]) -> bool:
    """Remove subjects from the kernel; tell whether it held any of them."""
    entries = [Entry(*key, action, 0.0) for key in keys for action in RESTRICTING]
    holding = [backend for backend in backends if backend.lookup(entries)]
    for backend in holding:
        backend.apply(entries)
    return bool(holding)


def _blocking(backends: Sequence[Backend], subject: str, scopes: Sequence[Scope]) -> list[Seen]:
    return [seen for backend in backends for seen in blocking(backend, subject, scopes)]


def _unban(store: Store, backends: Sequence[Backend], request: Unban, now: float) -> ChangeResult:
    """Do as the daemon does: the store first, then the kernel, then look whether it is so."""
    subject = request.subject
    scopes = SCOPES if request.scope is None else (request.scope,)
    rows = [r for r in store.snapshots(now, Filter(subject=subject)) if r.scope in scopes]
    still = _blocking(backends, subject, scopes)  # before anything changes: it may not be for us
    until = exempt_until(scopes, rows, request.exempt and now + request.exempt)
    rows = [row for row in rows if row.action != "exempt"]
    for scope in scopes:
        store.forget(subject, scope, now, until.get(scope, 0.0))
    store.record(now, exemptions(subject, until, now))
    held = _remove(backends, [(subject, scope) for scope in scopes])
    if request.exempt:
        _exempt(backends, subject, scopes, request.exempt)
    if held or request.exempt:
        still = _blocking(backends, subject, scopes)
    if not rows and not held and not request.exempt:
        told = f"{subject} is neither throttled nor banned"
        if still:
            raise RefusedError(f"{told} itself, but {sentence(still)}")
        raise RefusedError(told, "see: throttled list, throttled explain")
    told = unbanned(subject, would=_observing(backends))
    if still:
        told += f" itself, but {sentence(still)}"
    if request.exempt:
        told += f"; exempt for {Duration(request.exempt)}"
    return ChangeResult(rows, not still, told)


def _exempt(
    backends: Sequence[Backend], subject: str, scopes: Sequence[Scope], seconds: float
) -> None:
    """Exempt an address in the kernel; where there are no rules nothing blocks it either."""
    if address.is_network(subject):
        return
    for backend in backends:
        with suppress(BackendError):
            backend.apply([Entry(subject, scope, "exempt", seconds) for scope in scopes])


def _unban_all(
    store: Store, backends: Sequence[Backend], scope: Scope | None, now: float
) -> ChangeResult:
    count = store.clear(now, scope)
    told = f"{count} unbanned"
    if _observing(backends):
        told += " of those that would be throttled or banned; observing, nothing is enforced"
    left = 0
    for backend in backends:
        if scope is None:  # the next start makes the table again; emptying it may take minutes
            backend.teardown()
            continue
        # All of them first: a dump is not to be disturbed by our own changes.
        held = [
            Entry(seen.subject, seen.scope, seen.action, 0.0)
            for seen in backend.dump()
            if seen.scope == scope and seen.action in RESTRICTING
        ]
        if held:
            backend.apply(held)
        left += len(backend.lookup(held))
    if left:
        told = f"{told}, but the kernel still holds {left} entries"
    return ChangeResult([], confirmed=not left, message=told)


def _observing(backends: Sequence[Backend]) -> bool:
    return not all(backend.enforces for backend in backends)
