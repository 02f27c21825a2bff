"""Which of an instance's services receive SMTP from the network, and as what. Owns no state.

A port that only loopback can reach (a content filter's way back in, say `127.0.0.1:10025`) is no
service of ours: nobody can flood it from outside.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping

from throttled.facts import Service, Spool
from throttled.host.postconf import Entry, Instance, split
from throttled.model import Scope

#: Where /etc/services is missing or too old: RFC 5321, RFC 6409, RFC 8314.
_PORTS = {"smtp": 25, "submission": 587, "smtps": 465, "submissions": 465, "urd": 465}
#: Postfix's own default of default_process_limit.
_PROCESSES = 100
_SUBMISSION_PORTS = (465, 587)
_SUBMISSION_WORDS = ("submission", "smtps")
#: What makes a program expect its clients from a proxy.
_PROXY = {
    "smtpd": "smtpd_upstream_proxy_protocol",
    "postscreen": "postscreen_upstream_proxy_protocol",
}


def services(instance: Instance, scopes: Mapping[str, Scope]) -> tuple[list[Service], list[str]]:
    """Return the services of an instance, and warnings.

    Args:
        instance: as read from postconf.
        scopes: what the operator says of syslog names; it counts more than what is guessed.
    """
    found: list[Service] = []
    warnings: list[str] = []
    for entry in listening(instance):
        if loopback_only(entry):
            continue
        port = port_of(entry.name)
        if port is None:
            warnings.append(f"{instance.directory}/master.cf: {entry.name} has no known port")
            continue
        protocol = proxy(entry)
        group = (entry, *_behind(instance, entry))
        most = _processes(group[-1])
        for behind in group:
            tag = behind.parameters.get("syslog_name", "postfix")
            scope = scopes.get(tag) or _scope(entry, port)
            known = (instance.directory, behind.name, behind.process, tag, port, scope, protocol)
            found.append(Service(*known, most, wrapped(behind)))
        if protocol:
            warnings.append(
                f"{entry.name} (port {port}) gets its clients from a proxy ({protocol}): their "
                "packets do not come here, so no firewall here can block them: they are counted "
                "separately and reported, unless another service logs under the same name; run "
                "throttled on the proxy"
            )
    return found, warnings


def spool(instance: Instance) -> Spool | None:
    """Return the queue of an instance; None where postconf does not say where that is."""
    parameters = instance.parameters
    directory, owner = parameters.get("queue_directory", ""), parameters.get("mail_owner", "")
    if not directory.startswith("/") or not owner:
        return None
    limits = [
        _processes(entry)
        for entry in instance.entries
        if entry.process == "smtpd" and not disabled(entry) and not loopback_only(entry)
    ]
    return Spool(
        instance.directory, directory, owner, min(filter(None, limits), default=_PROCESSES)
    )


def _processes(entry: Entry) -> int:
    """Return how many processes a service may have; 0: any number (master(5))."""
    text = entry.processes
    if text == "-":
        text = entry.parameters.get("default_process_limit", "")
    return int(text) if text.isascii() and text.isdigit() else _PROCESSES


def alike(found: Iterable[Service]) -> Iterator[str]:
    """Yield a warning for services of different scopes that the log cannot distinguish."""
    first: dict[tuple[str, str], Service] = {}
    for service in found:
        known = first.setdefault((service.tag, service.process), service)
        if known.scope != service.scope:
            later = max(known, service, key=lambda s: s.scope)  # "submission" is the greater word
            yield (
                f"{known.name} (port {known.port}) and {service.name} (port {service.port}) both "
                f"log as {service.tag}/{service.process}, so their clients cannot be "
                f"distinguished; in {later.instance}/master.cf give {later.name} its own, for "
                f"example -o syslog_name=postfix/{later.scope}"
            )


def listening(instance: Instance) -> Iterator[Entry]:
    """Yield the services that listen for SMTP, on loopback too."""
    for entry in instance.entries:
        if entry.kind == "inet" and entry.process in _PROXY and not disabled(entry):
            yield entry


def proxy(entry: Entry) -> str:
    """Return the protocol of the proxy that a listening service gets its clients from; "": none."""
    return entry.parameters.get(_PROXY[entry.process], "")


def wrapped(entry: Entry) -> bool:
    """Return whether a service begins with TLS, so that its clients speak first."""
    return entry.parameters.get("smtpd_tls_wrappermode", "").lower() == "yes"


def _behind(instance: Instance, screen: Entry) -> Iterator[Entry]:
    """Yield the smtpd that postscreen hands its clients to (postscreen(8))."""
    if screen.process == "postscreen":
        name = screen.parameters.get("smtpd_service_name", "smtpd")
        yield from (e for e in instance.entries if (e.name, e.kind) == (name, "pass"))


def disabled(entry: Entry) -> bool:
    """Return whether master_service_disable names it, as `inet`, `smtp/inet` (postconf(5))."""
    for pattern in split(entry.parameters.get("master_service_disable", "")):
        if pattern.lstrip("!") in (entry.kind, f"{entry.name}/{entry.kind}"):
            return not pattern.startswith("!")
    return False


def loopback_only(entry: Entry) -> bool:
    """Return whether only this host can reach a service, such as a filter's way back."""
    host, colon, _ = entry.name.rpartition(":")
    hosts = [host] if colon else split(entry.parameters.get("inet_interfaces", "all"))
    return bool(hosts) and all(map(_is_loopback, hosts))


def _is_loopback(host: str) -> bool:
    host = host.strip("[]").lower()
    return host in ("::1", "localhost", "loopback-only") or host.startswith("127.")


def port_of(name: str) -> int | None:
    """Return the port of a service's name in master.cf, or None where it is unknown."""
    text = name.rpartition(":")[2]
    if text.isascii() and text.isdigit():
        return int(text) if 0 < int(text[:6]) < 65536 else None
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):
        return _PORTS.get(text)


def _scope(entry: Entry, port: int) -> Scope:
    """Guess what a port is for; only 25, 465 and 587 are certain."""
    if port == 25 or entry.process == "postscreen":
        return "mx"
    if port in _SUBMISSION_PORTS:
        return "submission"
    parameters = entry.parameters
    names = (entry.name + parameters.get("syslog_name", "")).lower()
    login = wrapped(entry) or parameters.get("smtpd_sasl_auth_enable", "").lower() == "yes"
    named = any(word in names for word in _SUBMISSION_WORDS)
    return "submission" if login or named or entry.mua else "mx"
