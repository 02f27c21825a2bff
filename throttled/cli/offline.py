"""What works without a running daemon, on the store and the kernel.

That is looking (list, explain, status, audit), unban, allow and disallow (`offline_changes`); the
same requests and results as on the control socket, and changes are recorded as the daemon would.
What only a running daemon knows (meters, open sessions, the lines that counted, packets since they
were last counted) is missing. Owns no state.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from throttled import __version__, address
from throttled.cli.daemon import R, ask, config, facts
from throttled.cli.offline_changes import change
from throttled.config.schema import Config
from throttled.control.protocol import (
    OBSERVED,
    READS,
    Allowed,
    AllowedResult,
    Audit,
    AuditResult,
    ChangeResult,
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
    refuse_unknown_limit,
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
from throttled.model import SCOPES, Past, Problem, Snapshot
from throttled.operator import audit
from throttled.store.database import MEMORY
from throttled.store.store import Filter, Store

#: More elements than these are not looked up in the kernel for `status`, but a sample of them.
_COMPARED = 100_000
_SAMPLE = 1_000


def ask_or_look(request: Request, kind: type[R], *, observed: bool = False) -> R:
    """Send a request to the daemon, or answer it from the store where no daemon runs.

    Args:
        request: a look, an unban, allow or disallow.
        kind: the type of its result.
        observed: look into the database of what was observed, whatever the configuration's mode.

    Raises:
        NotRunningError: no daemon, and there never was one: no store either.
        ThrottledError: the daemon's, the store's or the firewall's.
    """
    try:
        return ask(request, kind)
    except NotRunningError as error:
        try:
            settings = config()
            if observed:
                settings = replace(settings, mode="observe")
            paths = _databases(settings, request)
        except (OSError, ConfigError):
            raise error from None
        if not (isinstance(request, List) and request.after):  # once, not for each piece
            click.echo(f"throttled: {error.message}; looking into {paths[0]}", err=True)
            _warn_of_leftovers(settings)
        result = _answer_all(settings, paths, request)
        assert isinstance(result, kind)  # noqa: S101 - each request has one type of result
        return result


def _databases(settings: Config, request: Request) -> list[str]:
    """Return the databases that a request is about; of those that are there.

    In mode observe there are two: an unban is about what was really banned before, too.

    Raises:
        OSError: there is none.
    """
    if isinstance(request, Unban | UnbanAll) and settings.observing:
        both = settings.store.path, settings.database()
        if found := [path for path in both if Path(path).exists()]:
            return found
    Path(settings.database()).stat()
    return [settings.database()]


def _answer_all(settings: Config, paths: list[str], request: Request) -> Result:
    """Return the first answer: of two databases one may have nothing to change."""
    results: list[Result] = []
    refused: RefusedError | None = None
    for path in paths:
        try:
            result = _answer(settings, path, request)
        except RefusedError as error:
            refused = refused or error
        else:
            observed = path != settings.store.path and isinstance(result, OBSERVED)
            results.append(replace(result, would=True) if observed else result)
    if refused is not None and not results:
        raise refused
    return results[0]


def _warn_of_leftovers(settings: Config) -> None:
    """Say that the kernel still holds what an enforcing daemon put there, before one observed."""
    if not settings.observing:
        return
    from throttled.enforce.registry import present  # noqa: PLC0415 - libraries that list needs not

    for name in present():
        click.echo(
            f"throttled: the kernel still holds entries of the {name} backend, which really block; "
            "a start of the daemon removes them, or: throttled purge",
            err=True,
        )


def _answer(settings: Config, path: str, request: Request) -> Result:
    try:
        return _answer_from(settings, path, request, _backends(settings, path))
    except StoreError as error:
        if not isinstance(request, Unban | UnbanAll):
            raise
        # A full disk must not keep anybody banned: the kernel knows what it holds.
        result = _answer_from(settings, MEMORY, request, _backends(settings, path))
        assert isinstance(result, ChangeResult)  # noqa: S101 - that is what an unban gives
        told = "all unbanned" if isinstance(request, UnbanAll) else result.message
        told += f"; but {error.message}: the next start of the daemon bans again"
        return replace(result, message=told)


def _answer_from(
    settings: Config, path: str, request: Request, backends: Sequence[Backend]
) -> Result:
    now = time.time()
    changes = not isinstance(request, READS)
    store = Store.open(path, readonly=not changes)
    try:
        if not changes:
            return _look(store, settings, request, now)
        with audit.offline(store, request) as results:
            results.append(change(store, backends, request, now))
        return results[0]
    finally:
        store.close()


def _backends(settings: Config, path: str) -> list[Backend]:
    """Return the backends whose entries belong to a database.

    Where the configuration observes, what was really in force before may be in any of them.
    """
    from throttled.enforce.registry import choose, present  # noqa: PLC0415 - libraries: see above

    if settings.observing and path == settings.store.path:
        return [choose(name) for name in present()]
    firewall = settings.firewall
    return [choose(firewall.backend, firewall.xdp_mode, observing=settings.observing)]


def _look(store: Store, settings: Config, request: Request, now: float) -> Result:
    match request:
        case List():
            what = Filter(request.scope, request.action, request.limit, request.within)
            rows, after = store.page(now, what, request.sort, request.max, request.after)
            total = 0 if request.after else store.total(now, what)
            if request.limit is not None and not request.after and not total:
                refuse_unknown_limit(request.limit, settings.limits)
            return ListResult(rows, total, next=after)
        case Explain():
            return _explain(store, settings, request.subject, now)
        case Status():
            return _status(store, settings, now)
        case Allowed():
            from throttled.operator.bulk import allow_row  # noqa: PLC0415 - libraries that list needs not

            return AllowedResult([allow_row(row) for row in store.allowed(now)])
        case Audit():
            since = now - request.seconds if request.seconds else 0.0
            return AuditResult(store.changes(since, request.subject, request.max))
        case _:
            raise AssertionError(request)


def _status(store: Store, settings: Config, now: float) -> StatusResult:
    """Return what can be known: what should be in force, and whether the kernel holds it."""
    counts = store.counts(now)
    desired = 0 if settings.observing else sum(counts.values())
    hint = "start it: systemctl start throttled, or: throttled run"
    health = [Problem("fault", "the daemon is not running: nobody new is stopped", hint)]
    enforced = dropped = 0
    counted = desired <= _COMPARED
    (backend,) = _backends(settings, settings.database())
    try:
        dropped = backend.dropped()
        if desired == 0:
            enforced = 0
        elif counted:
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


def _explain(store: Store, settings: Config, subject: str, now: float) -> ExplainResult:
    from throttled.operator.bulk import allow_row  # noqa: PLC0415 - libraries that list needs not

    pasts = store.past([(subject, scope) for scope in SCOPES], now)
    network = address.network_of(subject)
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
        allowed=[allow_row(row) for row in rows if address.inside(subject, row.what)],
        next="nothing, while the daemon is not running",
    )


def _weight(past: Past) -> tuple[bool, int]:
    return past.action == "ban", past.offences


def _active(store: Store, subject: str, now: float) -> list[Snapshot]:
    return store.snapshots(now, Filter(subject=subject))
