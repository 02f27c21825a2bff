"""`throttled check`."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace

from throttled.cli import output, overload
from throttled.cli.daemon import ask, facts, loaded, runs
from throttled.cli.offline import answer_without_daemon
from throttled.cli.options import Command, json_option
from throttled.config.describe import dotted
from throttled.config.load import DEFAULT_PATH, Loaded
from throttled.config.schema import Config, Notify
from throttled.control.requests import AddHost, FleetStatus, Ping, Prove, Reach, Status
from throttled.control.results import Done, FleetResult, StatusResult
from throttled.errors import ConfigError, NotRunningError, StoreError, ThrottledError
from throttled.facts import Facts
from throttled.model import SCOPES, Finding
from throttled.store.store import Store


@click.command(
    cls=Command,
    examples=("throttled check", "throttled --config ./new.toml check", "throttled check --json"),
)
@json_option
@click.option(
    "--visit/--no-visit",
    default=True,
    help="Connect to Postfix and wait for its log line.",
)
def command(*, as_json: bool, visit: bool) -> int:
    """Check that the whole chain works: Postfix, logs, store, firewall, the daemon.

    Prints what works, what does not, and what to do. It connects to Postfix from this host to see
    whether the log line about that arrives, and adds and removes an element with an unused
    address in the firewall. The exit code is 1 if there is an error.
    """
    findings = list(_check(visit=visit))
    if as_json:
        output.print_json({"problems": findings})
    else:
        for finding in findings:
            for state, line in output.paragraph(finding):
                click.echo(f"{state:<8} {output.printable(line)}".rstrip())
    return int(any(finding.state == "fault" for finding in findings))


def _check(*, visit: bool) -> Iterator[Finding]:
    path = click.get_current_context().find_root().obj[0] or DEFAULT_PATH
    try:
        found = loaded()
        settings = found.config
        secret = [Path(place.name) for place in found.places.get(("notify", "url"), [])]
        yield from _configuration(found, path)
    except ConfigError as error:
        yield _finding(error)
        yield Finding("warning", "the checks below use the defaults", "correct the file first")
        settings, secret = Config(), []
    # Libraries that --help needs not.
    from throttled.health.probes import (  # noqa: PLC0415
        arrival,
        asking,
        fleet,
        limits,
        loggers,
        names,
        protect,
        sources,
    )
    from throttled.health.probes import settings as postfix  # noqa: PLC0415
    from throttled.tail.pattern import expand  # noqa: PLC0415

    known = facts(settings)
    logs = settings.logs(known)
    named = settings.firewall.ports
    yield from _guarded("Postfix", postfix.check, known, None if named == "auto" else named)
    yield from _guarded("Postfix's limits", limits.check, known, settings.store.path)
    probe = partial(
        asking.check,
        acting=settings.policy().acts(incoming=False),
        recipients=settings.policy().acts(incoming=True),
    )
    yield from _guarded("policy requests", probe, known)
    yield from _guarded("log", sources.check, logs, known)
    yield from _guarded("logger", loggers.check, logs)
    yield from _guarded("names", names.check, settings.protect.names)
    yield from _guarded("protect", protect.check, settings.protect.networks, settings.protect.names)
    if visit:
        learn = partial(_add_host, settings)
        yield from _guarded("visit", partial(arrival.check, learn=learn), known, expand(logs))
    yield from _guarded("store", _store, settings.database())
    yield from _guarded("daemon", _daemon, settings, known)
    asked = partial(ask, FleetStatus(), FleetResult)
    yield from _guarded("fleet", fleet.check, settings.fleet, asked)
    yield from _guarded("notifications", _notify, settings.notify, secret)


def _configuration(found: Loaded, path: str) -> Iterator[Finding]:
    """Yield the files that were read, and which keys more than one of them sets."""
    files = ", ".join(found.files) or f"{path} does not exist: all defaults"
    lines = [
        f"{dotted(key)}: {places[-1]} counts, not {', '.join(map(str, places[:-1]))}"
        for key, places in found.places.items()
        if places[1:] and not any(key == other[: len(key)] != other for other in found.places)
    ]
    yield Finding("ok", "\n".join([f"configuration: {files}", *lines]))


def _guarded(
    what: str, probe: Callable[..., Iterable[Finding]], *arguments: object
) -> Iterator[Finding]:
    """Yield what a probe finds; an unexpected exception is an error and stops no other probe."""
    try:
        yield from probe(*arguments)
    except ThrottledError as error:
        yield _finding(error)
    except Exception as error:  # noqa: BLE001 - unforeseen is what this is for
        text = f"{what}: check aborted: unexpected {type(error).__name__}: {error}"
        yield Finding("fault", text, "please report this, with what is special about this host")


def _add_host(settings: Config, name: str) -> str:
    """Have the daemon, or the database it will use, know another name of this host.

    Raises:
        ThrottledError: neither is there.
    """
    request = AddHost(name)
    try:
        return ask(request, Done).message
    except NotRunningError:
        if not Path(settings.database()).exists():
            raise
    result = answer_without_daemon(settings, [settings.database()], request)
    return result.message if isinstance(result, Done) else ""


def _finding(error: ThrottledError) -> Finding:
    return Finding("fault", error.message, error.hint)


def _store(path: str) -> Iterator[Finding]:
    try:
        there = Path(path).exists()
    except OSError as error:  # mostly an ordinary user: the directory is root's
        hint = "run it as root (sudo); is [store] path right?"
        yield Finding("fault", f"store: {path}: {error.strerror}", hint)
        return
    if not there:
        directory = Path(path).parent
        if directory.is_dir():
            yield Finding("ok", f"store: {path} will be created")
        else:
            hint = f"create it: install -d -m 0750 {directory}; systemd makes the default one"
            yield Finding("warning", f"store: the directory {directory} does not exist", hint)
        return
    try:
        store = Store.open(path, readonly=True)
    except StoreError as error:
        yield _finding(error)
        return
    count = sum(store.active.counts(time.time()).values())
    store.close()
    yield Finding("ok", f"store: {path}, {count} active throttles and bans")


def _daemon(settings: Config, known: Facts) -> Iterator[Finding]:
    """Check the firewall through the daemon, as it owns it; without a daemon, directly."""
    from throttled.health.probes import ports  # noqa: PLC0415 - as above
    from throttled.health.probes.unit import capabilities, limited  # noqa: PLC0415

    try:
        status = ask(Status(), StatusResult)
    except ConfigError:  # reported above
        what = "the daemon and the firewall were not checked: the configuration is not valid"
        yield Finding("warning", what, "correct it first")
        return
    except ThrottledError as error:
        hangs = isinstance(error, NotRunningError) and runs()
        yield Finding("fault" if hangs else "warning", error.message, error.hint)
        if isinstance(error, NotRunningError):
            with limited(capabilities()):  # as the daemon will be
                yield from _firewall(settings)
                yield from _sensor(settings)
                yield from _admission(settings)
            yield from _overload(settings, known, running=False)
            yield from ports.check(settings.filtered(known))
        return
    yield Finding("ok", f"the daemon is running, mode {status.mode}")
    if status.mode != settings.mode:
        what = f"the daemon runs in mode {status.mode}, the configuration says {settings.mode}"
        yield Finding("warning", what, "throttled reload")
    yield from status.health
    if status.sensor is not None:
        yield replace(status.sensor, what=f"sensor: {status.sensor.what}")
    for line in overload.lines(status.overload):
        yield Finding("ok", f"overload: {line}")
    yield from _overload(settings, known, running=True)
    try:
        proof = ask(Prove(), Done).message
    except ThrottledError as error:
        yield _finding(error)
    else:
        yield Finding("ok", f"firewall {status.backend}: {proof}")
    yield from ports.check(status.ports)
    with limited(capabilities()):
        yield from _firewall(settings, running=status.backend)


def _notify(settings: Notify, paths: Iterable[Path]) -> Iterator[Finding]:
    from throttled.health.probes.notify import check  # noqa: PLC0415 - as above

    reach = None
    with suppress(ThrottledError):
        if settings.url:
            ask(Ping(), Done)
            reach = partial(ask, Reach(), Done)
    yield from check(settings, paths, reach)


def _firewall(settings: Config, running: str = "") -> Iterator[Finding]:
    """Check the configured backend, unless it is the one that runs: the daemon owns that."""
    from throttled.enforce.backend import cannot_refuse  # noqa: PLC0415
    from throttled.enforce.registry import choose  # noqa: PLC0415
    from throttled.health.probes.firewall import check  # noqa: PLC0415 - as above

    firewall = settings.firewall
    backend = choose(firewall.backend, firewall.xdp_mode, observing=settings.observing)
    if backend.name == running:
        return
    if running:
        what = f"the daemon runs with backend {running}, the configuration says {backend.name}"
        yield Finding("warning", what, "restart it: systemctl restart throttled")
    yield from check(backend)
    if firewall.reject and not backend.refuses:
        yield cannot_refuse(backend)


def _overload(settings: Config, known: Facts, *, running: bool) -> Iterator[Finding]:
    """Say how many connections strangers may have, or why that is not limited.

    Args:
        settings: the configuration.
        known: the services.
        running: a daemon reported all but the scopes in which nothing can be limited.
    """
    from throttled.service.overload import wanted  # noqa: PLC0415 - as above

    for scope in SCOPES:
        want = wanted(settings, known, scope, observing=settings.observing)
        served = any(service.scope == scope for service in known.services)
        if want.mode == "off" or not served or (running and want.ports):
            continue
        note = "" if want.mode == "enforce" else ", only reported"
        most = f"strangers may have {want.cap} connections open{note}"
        if want.why:
            most = f"everybody is admitted: {want.why}"
        yield Finding("ok", f"overload: {scope}: {most}")


def _admission(settings: Config) -> Iterator[Finding]:
    from throttled.health.probes.admission import check  # noqa: PLC0415 - as above

    if not settings.observing and any(settings.overload.mode(scope) != "off" for scope in SCOPES):
        yield from check()


def _sensor(settings: Config) -> Iterator[Finding]:
    from throttled.health.probes.sensor import check  # noqa: PLC0415 - as above

    yield from check(settings.sensor)
