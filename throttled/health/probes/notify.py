"""Whether notifications can be delivered: command there, webhook reachable, mail accepted.

The packaged unit lets the daemon reach no other host (`IPAddressDeny=any`). A running daemon tries
it itself; of one that does not run, systemd is asked what the unit allows.
"""

import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from throttled.config.schema import Notify
from throttled.errors import HostError, ThrottledError
from throttled.host.command import run
from throttled.model import Finding
from throttled.notify.mail import accepts

DROP_IN = "/etc/systemd/system/throttled.service.d/webhook.conf"
#: As packaging/systemd/webhook.conf, which a test compares.
_TEXT = f"""\
write this to {DROP_IN}:
# What [notify] url needs beyond throttled.service: to reach other hosts, and their names.
[Service]
IPAddressDeny=
IPAddressAllow=
then: systemctl daemon-reload && systemctl restart throttled"""
_UNIT = "throttled.service"

Network = IPv4Network | IPv6Network
_PORTS = {"http": 80, "https": 443}


def check(
    settings: Notify, paths: Iterable[Path], reach: Callable[[], object] | None
) -> Iterator[Finding]:
    """Check what is configured; yield nothing where nothing is.

    Args:
        settings: the configuration's [notify].
        paths: of the configuration's files with the webhook's URL.
        reach: has the running daemon connect to the webhook; raises ThrottledError where it
            could not. None where no daemon runs.
    """
    if settings.command:
        yield _command(settings.command[0])
    if settings.mail:
        yield _mail(settings.mail, settings.smtp)
    if settings.url:
        for path in paths:
            yield from _secret(path)
        yield _from_daemon(settings.url, reach) if reach else _from_unit(settings.url)


def _mail(to: str, server: str) -> Finding:
    try:
        accepts(to, server)
    except ThrottledError as error:
        return Finding("fault", f"notify: no mail to {to}: {error.message}", error.hint)
    return Finding("ok", f"notify: {server} accepts mail to {to}")


def _command(program: str) -> Finding:
    if shutil.which(program):
        return Finding("ok", f"notify: the command {program} exists")
    hint = "correct [notify] command; it needs the permission to be executed"
    return Finding("fault", f"notify: the command {program} cannot be run", hint)


def _secret(path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & 0o004:
        what = f"notify: every local user can read the webhook's URL, a secret, in {path}"
        yield Finding("warning", what, f"chmod o= {path}")


def _from_daemon(url: str, reach: Callable[[], object]) -> Finding:
    host = _host(url)
    try:
        reach()
    except ThrottledError as error:
        what = f"notify: the daemon cannot reach the webhook at {host}: {error.message}"
        return Finding("fault", what, _TEXT if _denied(host) else error.hint)
    return Finding("ok", f"notify: the daemon can reach the webhook at {host}")


def _from_unit(url: str) -> Finding:
    host = _host(url)
    if denied := _denied(host):
        what = f"notify: the unit's IPAddressDeny does not let the daemon reach {denied}"
        return Finding("fault", what, _TEXT)
    parts = urlsplit(url)
    try:
        socket.create_connection((host, parts.port or _PORTS[parts.scheme]), 5.0).close()
    except OSError as error:
        hint = "correct [notify] url; is there a firewall between?"
        return Finding("warning", f"notify: the webhook at {host} cannot be reached: {error}", hint)
    return Finding("ok", f"notify: the webhook at {host} can be reached from this host")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _denied(host: str) -> str:
    """Return what the unit denies of reaching a host, "" for nothing or without such a unit."""
    try:
        shown = run("systemctl", "show", _UNIT, "-p", "LoadState,IPAddressDeny,IPAddressAllow")
    except HostError:  # no systemd here
        return ""
    words = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    deny, allow = (_networks(words.get(f"IPAddress{name}", "")) for name in ("Deny", "Allow"))
    if words.get("LoadState") != "loaded" or not deny:
        return ""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except OSError:
        found = []  # then its name is what cannot be learnt
    for text in found:
        address = ip_address(text.partition("%")[0])
        if _in(address, deny) and not _in(address, allow):
            return f"{host} ({text})" if host != text else text
    return "" if found else host


def _networks(value: str) -> list[Network]:
    return [ip_network(word) for word in value.split()]


def _in(address: object, networks: list[Network]) -> bool:
    return any(address in network for network in networks)
