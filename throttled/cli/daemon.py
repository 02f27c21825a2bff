"""How a command finds the daemon, the configuration and, without a daemon, the store.

Owns no state.
"""

from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import click

from throttled.config.load import Loaded, load, read
from throttled.config.schema import Config
from throttled.control import client
from throttled.control.requests import Request
from throttled.control.results import Result
from throttled.errors import ConfigError, StoreError, ThrottledError, UsageError
from throttled.facts import Facts
from throttled.log_paths import is_journal

R = TypeVar("R", bound=Result)


def config() -> Config:
    """Return the configuration that `--config` names.

    Raises:
        ConfigError: it cannot be used.
    """
    return loaded().config


def loaded() -> Loaded:
    """Return the configuration that `--config` names, with the places of its keys.

    Raises:
        ConfigError: it cannot be used.
    """
    path, _ = click.get_current_context().find_root().obj
    return read(path)


def facts(settings: Config) -> Facts:
    """Return what is so on this host, as the daemon learns it; with warnings of what is unknown."""
    from throttled.service import last_facts  # noqa: PLC0415 - libraries that --help needs not
    from throttled.service.configuration import gathered  # noqa: PLC0415
    from throttled.store.store import Store  # noqa: PLC0415

    before = Facts()
    recorded: frozenset[str] = frozenset()  # names of this host that `check` found in its log
    with suppress(StoreError), closing(Store.open(settings.database(), readonly=True)) as store:
        before = last_facts.load(store)
        recorded = store.hosts.names()
    return gathered(settings, before, recorded)


def own_logs(settings: Config, known: Facts) -> list[str]:
    """Return this host's logs, for a command without FILE: files with their rotated ones, journal.

    Raises:
        UsageError: the configuration names none.
    """
    from throttled.sources.history import rotated  # noqa: PLC0415 - as above
    from throttled.tail.pattern import expand  # noqa: PLC0415 - as above

    logs = settings.logs(known)
    if not logs:
        hint = "name a file, or systemd's journal: journal; see also: [log] in the configuration"
        raise UsageError("the configuration names no log of this host", hint)
    return [path for log in expand(logs) for path in ([log] if is_journal(log) else rotated(log))]


def ask(request: Request, kind: type[R], timeout: float = client.TIMEOUT) -> R:
    """Send a request to the daemon and return its result, which is of this type.

    Args:
        request: what is asked.
        kind: the type of its result.
        timeout: seconds until the answer.

    Raises:
        NotRunningError: no answer.
        NotPermittedError: the socket may not be opened.
        ThrottledError: what the daemon says is wrong.
    """
    result = client.request(Path(socket_path()), request, timeout)
    if not isinstance(result, kind):
        hint = "the daemon and this command differ in version: restart the daemon"
        raise ThrottledError("unexpected answer of the daemon", hint)
    return result


def runs() -> bool:
    """Return whether a daemon runs, also one that did not answer."""
    return client.alive(Path(socket_path()))


def socket_path() -> str:
    """Return where the daemon listens.

    A daemon that is running does not need its file any more. A command must not either: the file
    may be half edited, or closed to a member of the control group.
    """
    root = click.get_current_context().find_root()
    path, socket = root.obj
    if socket is not None:
        return str(socket)
    try:
        return load(path).control.socket
    except ConfigError as error:
        if path is not None:
            raise
        default = Config().control.socket
        click.echo(f"throttled: {error.message}\nthrottled: trying {default}", err=True)
        root.obj = (path, default)  # reported once
        return default
