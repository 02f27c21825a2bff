"""Which databases a command is about where no daemon runs, and what it says of them.

The same commands as in the daemon answer, see `throttled.operator.offline`. Owns no state.
"""

from pathlib import Path

import click
from msgspec.structs import replace

from throttled.address import is_named
from throttled.cli.daemon import R, ask, config, facts
from throttled.config.schema import Config
from throttled.control.bulk import UnbanMany, UnbanManyResult
from throttled.control.requests import (
    Allow,
    Disallow,
    Explain,
    List,
    Request,
    Resolve,
    Unban,
    UnbanAll,
)
from throttled.control.results import ChangeResult, Result
from throttled.control.wire import decode_request, encode
from throttled.errors import ConfigError, NotRunningError, RefusedError
from throttled.facts import Facts

#: Requests for which it matters what is protected.
_PROTECTION = Explain | Allow | Resolve | Disallow


def ask_or_offline(
    request: Request, kind: type[R], *, observed: bool = False, quiet: bool = False
) -> R:
    """Send a request to the daemon, or answer it from the store where no daemon runs.

    Args:
        request: a look, an unban, allow or disallow.
        kind: the type of its result.
        observed: look into the database of what was observed, whatever the configuration's mode.
        quiet: do not say that no daemon runs: another request of the same command does.

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
        if not quiet and not _further(request):  # once, not for each piece
            click.echo(f"throttled: {error.message}; reading {paths[0]}", err=True)
            _warn_of_leftovers(settings)
        result = answer_without_daemon(settings, paths, request)
        assert isinstance(result, kind)  # noqa: S101 - each request has one type of result
        return result


def _databases(settings: Config, request: Request) -> list[str]:
    """Return the databases that a request is about; of those that are there.

    In mode observe there are two: an unban is about what was really banned before, too.

    Raises:
        OSError: there is none.
    """
    if isinstance(request, Unban | UnbanAll | UnbanMany) and settings.observing:
        both = settings.store.path, settings.database()
        if found := [path for path in both if Path(path).exists()]:
            return found
    Path(settings.database()).stat()
    return [settings.database()]


def answer_without_daemon(settings: Config, paths: list[str], request: Request) -> Result:
    """Answer a request from databases and the kernel.

    Of two databases, or backends, one may have nothing to change. The first answer counts, or the
    first that the kernel did not confirm.

    Raises:
        UsageError: the daemon would not accept the request either.
        ThrottledError: the store's, the firewall's or the command's.
    """
    request = decode_request(encode(request))
    from throttled.operator.offline import (  # noqa: PLC0415 - 0.1 s that a daemon's answer needs not
        answer_offline,
        backends,
    )

    known = facts(settings) if _needs_facts(request) else Facts()
    results: list[Result] = []
    refused: RefusedError | None = None
    for path in paths:
        for backend in backends(settings, path):
            try:
                results.append(answer_offline(settings, path, backend, request, known))
            except RefusedError as error:
                refused = refused or error
    if refused is not None and not results:
        raise refused
    changes = (r for r in results if isinstance(r, ChangeResult | UnbanManyResult))
    doubtful = (r for r in changes if not r.confirmed)
    return next(doubtful, results[0])


def _further(request: Request) -> bool:
    """Return whether a request continues what another one began."""
    if isinstance(request, UnbanMany):
        return request.part is not None and request.part.number > 1
    return isinstance(request, List) and bool(request.after)


def _needs_facts(request: Request) -> bool:
    """Return whether the answer depends on what is protected, or on Postfix's local domain."""
    subjects = [request.subject] if isinstance(request, Unban) else []
    subjects += request.subjects if isinstance(request, UnbanMany) else []
    named = any(map(is_named, subjects))
    return named or isinstance(request, _PROTECTION)


def _warn_of_leftovers(settings: Config) -> None:
    """Warn that the kernel still has elements of an enforcing daemon, from before one observed."""
    if not settings.observing:
        return
    from throttled.enforce.registry import present  # noqa: PLC0415 - libraries that list needs not

    for name in present():
        click.echo(
            f"throttled: the kernel still has elements of the {name} backend, which block clients; "
            "start the daemon to remove them, or run: throttled purge",
            err=True,
        )
