"""What works without a running daemon, on the store and the kernel.

That is looking (list, explain, status, audit), unban, allow and disallow; the same requests and
results as on the control socket, and changes are recorded as the daemon would. What only a running
daemon knows (meters, open sessions, the lines that counted, packets since they were last counted)
is missing. Owns no state.
"""

import time
from pathlib import Path

import click
from msgspec.structs import replace

from throttled import __version__, address, audit
from throttled.cli.daemon import R, ask, config, facts
from throttled.config.schema import Config
from throttled.control.protocol import (
    READS,
    Allow,
    Allowed,
    AllowedResult,
    AllowRow,
    Audit,
    AuditResult,
    ChangeResult,
    Disallow,
    Explain,
    ExplainResult,
    List,
    ListResult,
    Request,
    Result,
    Status,
    StatusResult,
    Unban,
    UnbanAll,
)
from throttled.decide.protect import Protection
from throttled.enforce.backend import Backend
from throttled.errors import (
    BackendError,
    ConfigError,
    NotRunningError,
    RefusedError,
    StoreError,
)
from throttled.model import ACTIONS, SCOPES, Entry, Past, Problem, Scope, Snapshot
from throttled.policy import Duration
from throttled.store.database import MEMORY
from throttled.store.store import Allowed as StoredAllowed
from throttled.store.store import Filter, Store

#: More elements than these are not looked up in the kernel for `status`, but a sample of them.
_COMPARED = 100_000
_SAMPLE = 1_000
_LATER = "the firewall's own list follows when the daemon runs"


def ask_or_look(request: Request, kind: type[R]) -> R:
    """Send a request to the daemon, or answer it from the store where no daemon runs.

    Args:
        request: a look, an unban, allow or disallow.
        kind: the type of its result.

    Raises:
        NotRunningError: no daemon, and there never was one: no store either.
        ThrottledError: the daemon's, the store's or the firewall's.
    """
    try:
        return ask(request, kind)
    except NotRunningError as error:
        try:
            settings = config()
            path = _database(settings, request)
            Path(path).stat()
        except (OSError, ConfigError):
            raise error from None
        click.echo(f"throttled: {error.message}; looking into {path}", err=True)
        result = _answer(settings, path, request)
        assert isinstance(result, kind)  # noqa: S101 - each request has one type of result
        return result


def _database(settings: Config, request: Request) -> str:
    """Return the database that a request is about.

    In mode observe there are two: an unban is about what was really banned before.
    """
    path = settings.store.path
    real = isinstance(request, Unban | UnbanAll) and Path(path).exists()
    return path if real else settings.database()


def _answer(settings: Config, path: str, request: Request) -> Result:
    try:
        return _answer_from(settings, path, request)
    except StoreError as error:
        if not isinstance(request, Unban | UnbanAll):
            raise
        # A full disk must not keep anybody banned: the kernel knows what it holds.
        result = _answer_from(settings, MEMORY, request)
        assert isinstance(result, ChangeResult)  # noqa: S101 - that is what an unban gives
        told = "all freed" if isinstance(request, UnbanAll) else result.message
        told += f"; but {error.message}: the next start of the daemon bans again"
        return replace(result, message=told)


def _answer_from(settings: Config, path: str, request: Request) -> Result:
    now = time.time()
    changes = not isinstance(request, READS)
    store = Store.open(path, readonly=not changes)
    try:
        if not changes:
            return _look(store, settings, request, now)
        with audit.offline(store, request) as results:
            results.append(_change(store, settings, request, now))
        return results[0]
    finally:
        store.close()


def _look(store: Store, settings: Config, request: Request, now: float) -> Result:
    match request:
        case List():
            what = Filter(request.scope, request.action, request.limit, request.within)
            rows = store.snapshots(now, what, request.sort, request.max)
            return ListResult(rows, store.total(now, what))
        case Explain():
            return _explain(store, settings, request.subject, now)
        case Status():
            return _status(store, settings, now)
        case Allowed():
            return AllowedResult([_allowed(row) for row in store.allowed(now)])
        case Audit():
            since = now - request.seconds if request.seconds else 0.0
            return AuditResult(store.changes(since, request.subject, request.max))
        case _:
            raise AssertionError(request)


def _change(store: Store, settings: Config, request: Request, now: float) -> ChangeResult:
    match request:
        case Unban():
            return _unban(store, _backend(settings), request, now)
        case UnbanAll():
            return _unban_all(store, _backend(settings), request.scope, now)
        case Allow():
            return _allow(store, _backend(settings), request, now)
        case Disallow():
            if store.disallow(request.what):
                told = f"{request.what} is no longer allowed; {_LATER}"
                return ChangeResult([], confirmed=True, message=told)
            hint = "see `throttled allow`; what the file allows is in its [protect]"
            raise RefusedError(f"{request.what} was not allowed by hand", hint)
        case _:
            raise AssertionError(request)


def _status(store: Store, settings: Config, now: float) -> StatusResult:
    """Return what can be known: what should be in force, and whether the kernel holds it."""
    counts = store.counts(now)
    desired = sum(counts.values())
    hint = "start it: systemctl start throttled, or: throttled run"
    health = [Problem("fault", "the daemon is not running: nobody new is stopped", hint)]
    enforced = dropped = 0
    counted = desired <= _COMPARED
    backend = _backend(settings)
    try:
        dropped = backend.dropped()
        if counted:
            enforced = sum(len(backend.lookup(entries)) for entries in store.active(now))
        else:
            some = store.sample(now, _SAMPLE)
            enforced = desired * len(backend.lookup(some)) // max(1, len(some))
    except BackendError as error:
        health.append(Problem("fault", error.message, error.hint))
    return StatusResult(
        version=__version__,
        backend=backend.name,
        mode=settings.mode,
        pid=0,
        started=0.0,
        uptime=0.0,
        tails=[],
        clients=0,
        max_clients=settings.max_clients,
        throttled={scope: counts.get((scope, "throttle"), 0) for scope in SCOPES},
        banned={scope: counts.get((scope, "ban"), 0) for scope in SCOPES},
        exempt={scope: counts.get((scope, "exempt"), 0) for scope in SCOPES},
        packets_dropped=dropped,
        desired=desired,
        enforced=enforced,
        counted=counted,
        health=health,
        events={},
        lines=0,
        lines_lost=0,
        errors=0,
    )


def _allow(store: Store, backend: Backend, request: Allow, now: float) -> ChangeResult:
    what = request.what
    store.allow(what, now + request.seconds if request.seconds else 0.0, request.note, now)
    first: list[Snapshot] = []
    confirmed = True
    while address.is_subject(what) and (rows := store.snapshots(now, Filter(within=what))):
        for row in rows:
            store.forget(row.subject, row.scope, now)
        entries = [Entry(r.subject, r.scope, action, 0.0) for r in rows for action in ACTIONS]
        if backend.lookup(entries):
            backend.apply(entries)
            confirmed &= not backend.lookup(entries)
        first = first or rows
    return ChangeResult(first, confirmed, f"{what} is allowed; {_LATER}")


def _allowed(row: StoredAllowed) -> AllowRow:
    return AllowRow(row.what, row.since, row.until or None, row.note)


def _backend(settings: Config) -> Backend:
    from throttled.enforce.choose import choose  # noqa: PLC0415 - libraries that list needs not

    # Also in mode observe: the kernel may still hold what was decided before.
    return choose(settings.firewall.backend, settings.firewall.xdp_mode)


def _explain(store: Store, settings: Config, subject: str, now: float) -> ExplainResult:
    pasts = store.past([(subject, scope) for scope in SCOPES], now)
    network = "" if address.is_network(subject) else address.network_of(subject)
    rows = store.allowed(now)
    protection = Protection.of(facts(settings), settings.protect, [row.what for row in rows])
    return ExplainResult(
        subject=subject,
        network=network,
        protected=protection.reason(subject),
        active=[row for one in (subject, network) if one for row in _active(store, one, now)],
        meters=[],
        sessions=0,
        lines=[],
        decisions=store.decisions(subject),
        past=max(pasts.values(), key=_weight),
        allowed=[_allowed(row) for row in rows if address.inside(subject, row.what)],
        next="nothing, while the daemon is not running",
    )


def _weight(past: Past) -> tuple[bool, int]:
    return past.action == "ban", past.offences


def _active(store: Store, subject: str, now: float) -> list[Snapshot]:
    return store.snapshots(now, Filter(subject=subject))


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
        if seen.scope == scope and seen.action != "exempt"
    ]
    if held:
        backend.apply(held)
    return ChangeResult([], confirmed=not backend.lookup(held), message=told)
