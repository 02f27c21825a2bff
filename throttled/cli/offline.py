"""What works without a running daemon: list, explain and unban, on the store and the kernel.

The same requests and results as on the control socket. What only a running daemon knows (meters,
open sessions, the lines that counted, packets since they were last counted) is missing.
Owns no state.
"""

import time
from pathlib import Path

import click

from throttled import address
from throttled.cli.daemon import R, ask, config
from throttled.config.schema import Config
from throttled.control.protocol import (
    AllowRow,
    ChangeResult,
    Explain,
    ExplainResult,
    List,
    ListResult,
    Request,
    Result,
    Unban,
    UnbanAll,
)
from throttled.enforce.backend import Backend
from throttled.errors import NotRunningError, RefusedError
from throttled.model import ACTIONS, SCOPES, Entry, Past, Scope, Snapshot
from throttled.policy import Duration
from throttled.store.store import Filter, Store

#: Of a network with more in force, its own row may be missed.
_ROWS = 10_000


def ask_or_look(request: Request, kind: type[R]) -> R:
    """Send a request to the daemon, or answer it from the store where no daemon runs.

    Args:
        request: a `List`, `Explain`, `Unban` or `UnbanAll`.
        kind: the type of its result.

    Raises:
        NotRunningError: no daemon, and there never was one: no store either.
        ThrottledError: the daemon's, the store's or the firewall's.
    """
    try:
        return ask(request, kind)
    except NotRunningError as error:
        settings = config()
        path = settings.store.path
        try:
            Path(path).stat()
        except OSError:
            raise error from None
        click.echo(f"throttled: {error.message}; looking into {path}", err=True)
        result = _answer(settings, request, time.time())
        assert isinstance(result, kind)  # noqa: S101 - each request has one type of result
        return result


def _answer(settings: Config, request: Request, now: float) -> Result:
    changes = isinstance(request, Unban | UnbanAll)
    store = Store.open(settings.store.path, readonly=not changes)
    try:
        match request:
            case List():
                what = Filter(request.scope, request.action, request.limit, request.within)
                rows = store.snapshots(now, what, request.sort, request.max)
                return ListResult(rows, store.total(now, what))
            case Explain():
                return _explain(store, request.subject, now)
            case Unban():
                return _unban(store, _backend(settings), request, now)
            case UnbanAll():
                return _unban_all(store, _backend(settings), request.scope, now)
            case _:
                raise AssertionError(request)
    finally:
        store.close()


def _backend(settings: Config) -> Backend:
    from throttled.enforce.choose import choose  # noqa: PLC0415 - libraries that list needs not

    # Also in mode observe: the kernel may still hold what was decided before.
    return choose(settings.firewall.backend, settings.firewall.xdp_mode)


def _explain(store: Store, subject: str, now: float) -> ExplainResult:
    pasts = store.past([(subject, scope) for scope in SCOPES], now)
    packed, prefix = address.parse(subject)
    network = "" if address.is_network(subject) else address.network_of(subject)
    allowed = []
    for row in store.allowed(now):
        outer = _network(row.what)
        if outer and outer[1] <= prefix and address.contains(outer, packed):
            allowed.append(AllowRow(row.what, row.since, row.until or None, row.note))
    return ExplainResult(
        subject=subject,
        network=network,
        protected="",
        active=[row for one in (subject, network) if one for row in _active(store, one, now)],
        meters=[],
        sessions=0,
        lines=[],
        decisions=store.decisions(subject),
        past=max(pasts.values(), key=_weight),
        allowed=allowed,
        next="nothing, while the daemon is not running",
    )


def _weight(past: Past) -> tuple[bool, int]:
    return past.action == "ban", past.offences


def _network(what: str) -> tuple[bytes, int] | None:
    try:
        return address.parse(what)
    except ValueError:  # a host name
        return None


def _active(store: Store, subject: str, now: float) -> list[Snapshot]:
    rows = store.snapshots(now, Filter(within=subject), count=_ROWS)
    return [row for row in rows if row.subject == subject]


def _unban(store: Store, backend: Backend, request: Unban, now: float) -> ChangeResult:
    """Do as the daemon does: the store first, then the kernel, then look whether it is so."""
    subject = request.subject
    scopes = SCOPES if request.scope is None else (request.scope,)
    entries = [Entry(subject, scope, action, 0.0) for scope in scopes for action in ACTIONS]
    rows = [row for row in _active(store, subject, now) if row.scope in scopes]
    held = backend.lookup(entries)
    exempt_until = now + request.exempt if request.exempt else 0.0
    store.forget(subject, request.scope, now, exempt_until)
    if not rows and not held and not exempt_until:
        hint = "see: throttled list, throttled explain"
        raise RefusedError(f"{subject} is neither throttled nor banned", hint)
    if held:
        backend.apply(entries)
    told = f"{subject} is free"
    if request.exempt:
        told += f", and exempt for {Duration(request.exempt)}"
    return ChangeResult(rows, not backend.lookup(entries), told)


def _unban_all(store: Store, backend: Backend, scope: Scope | None, now: float) -> ChangeResult:
    count = store.clear(now, scope)
    told = f"{count} freed"
    if scope is None:  # the next start makes the table again; emptying it may take minutes
        backend.teardown()
        return ChangeResult([], confirmed=True, message=told)
    # All of them first: a dump is not to be disturbed by our own changes.
    held = [
        Entry(seen.subject, seen.scope, seen.action, 0.0)
        for seen in backend.dump()
        if seen.scope == scope
    ]
    if held:
        backend.apply(held)
    return ChangeResult([], confirmed=not backend.lookup(held), message=told)
