"""Whether the fleet works: its files, the connection, and the Redis server, as the daemon sees it.

The Redis server is not asked here: only the fleet process speaks to it.
"""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from throttled.config.fleet import Fleet
from throttled.control.results import FleetResult
from throttled.errors import ConfigError, ThrottledError
from throttled.fleet.files import read_secret, text
from throttled.model import Finding

_LOCAL = {"localhost", "127.0.0.1", "::1"}


def check(settings: Fleet, ask: Callable[[], FleetResult]) -> Iterator[Finding]:
    """Check what is configured; yield nothing where nothing is.

    Args:
        settings: the configuration's [fleet].
        ask: asks the running daemon; raises ThrottledError where it does not answer.
    """
    if not settings.site:
        return
    yield from _files(settings)
    yield from _plain(settings)
    try:
        result = ask()
    except ThrottledError as error:
        yield Finding("warning", f"fleet: {error.message}", error.hint)
        return
    if not result.connected:
        what = result.error or "the fleet process does not listen"
        hint = "systemctl enable --now throttled-fleet; see docs/fleet.md"
        yield Finding("fault", f"fleet {settings.site}: not connected: {what}", hint)
        return
    peers = ", ".join(peer.name for peer in result.peers) or "none yet"
    yield Finding("ok", f"fleet {settings.site}: connected as {result.name}; peers: {peers}")
    if result.error:
        yield Finding("warning", f"fleet {settings.site}: {result.error}", result.hint)
    yield from result.server


def _files(settings: Fleet) -> Iterator[Finding]:
    passwords = settings.password, settings.sentinel_password
    paths = (*passwords, settings.ca, settings.cert, settings.key)
    try:
        read_secret(settings.secret)
        for path in paths:
            text(path)
    except ConfigError as error:
        yield Finding("fault", f"fleet: {error.message}", error.hint)


def _plain(settings: Fleet) -> Iterator[Finding]:
    """Say where passwords and entries go unencrypted."""
    scheme, _, rest = settings.server.partition("://")
    hosts = {"sentinel": rest.partition("/")[0].split(",")}.get(scheme, [])
    if scheme == "redis":
        hosts = [urlsplit(settings.server).hostname or ""]
    if [host for host in hosts if host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL]:
        what = f"fleet: {scheme}:// sends the password and the bans unencrypted"
        hint = f"use {scheme}s:// unless that network is yours alone"
        yield Finding("warning", what, hint, "fleet-tls")
