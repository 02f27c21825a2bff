"""Gathers the facts about this host: what Postfix is configured to do, and who must be spared.

Owns no state. Runs a dozen short commands and may wait for a name server, so it is called in a
thread. What cannot be learnt is in `warnings`, and kept from the facts before, so that somebody's
half-edited main.cf takes no protection away.
"""

import logging
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from throttled import address
from throttled.errors import HostError
from throttled.facts import Facts, Service, Spool
from throttled.host import addresses, mynetworks, postconf, relays, services
from throttled.host.postconf import Instance, split
from throttled.maincf.asking import DATA, RECIPIENT, disconnected
from throttled.model import Scope

#: Where syslog daemons write it: Debian's way, and Red Hat's.
LOG_FILES = ("/var/log/mail.log", "/var/log/maillog")

RESOLV_CONF = "/etc/resolv.conf"

#: How long the names of relays may take to resolve, together.
_RESOLVE = 3.0

#: Parameters that name what delivers to mailboxes (postconf(5)), as transport:nexthop.
_TRANSPORTS = ("local_transport", "mailbox_transport", "virtual_transport")
#: Fields of `Facts` that hold addresses or networks.
_ADDRESSES = ("own", "gateways", "resolvers", "relays", "mynetworks", "xclient", "xforward")

Known = TypeVar("Known")

log = logging.getLogger(__name__)


def gather(
    config_directories: Sequence[str] = (),
    scopes: Mapping[str, Scope] | None = None,
    hosts: Iterable[str] = (),
    before: Facts | None = None,
    log_files: Sequence[str] = LOG_FILES,
) -> Facts:
    """Return what is so on this host. Never raises for what cannot be learnt.

    Args:
        config_directories: of the Postfix instances; none: ask Postfix.
        scopes: what the operator says of syslog names.
        hosts: names of other hosts whose lines in the log count.
        before: the facts so far.
        log_files: the first that exists is the log where `maillog_file` is not set.
    """
    before = before or Facts()
    try:
        return _gather(config_directories, scopes or {}, hosts, before, log_files)
    except Exception as error:
        log.exception("facts about this host cannot be read")
        what = f"facts about this host cannot be read: unexpected {type(error).__name__}"
        return replace(before, warnings=_unique(*before.warnings, what))


def _gather(
    config_directories: Sequence[str],
    scopes: Mapping[str, Scope],
    hosts: Iterable[str],
    before: Facts,
    log_files: Sequence[str],
) -> Facts:
    warnings: list[str] = []
    # The logger learns another name when it is started again: until then it writes the old one.
    former = before.former | {name for name in (socket.gethostname(),) if name}
    directories = tuple(config_directories) or _try(
        postconf.directories, before.config_directories, warnings
    )
    instances = [i for d in directories if (i := _try(partial(postconf.read, d), None, warnings))]
    unread = set(directories) - {instance.directory for instance in instances}
    kept = before if unread or not instances else Facts()  # as if nothing had changed there
    xclient = _authorised(instances, "smtpd_authorized_xclient_hosts", before.xclient, warnings)
    xforward = _authorised(instances, "smtpd_authorized_xforward_hosts", before.xforward, warnings)
    if remote := [network for network in xclient if not address.is_loopback(network)]:
        warnings.append(
            f"{', '.join(remote)} may name other clients (smtpd_authorized_xclient_hosts): it is "
            "protected; the clients that it names are counted separately and reported, as no "
            "firewall here can stop them; run throttled on that host"
        )
    facts = Facts(
        services=_services(instances, kept, unread, scopes, warnings),
        spools=_spools(instances, kept, unread),
        log_files=_unique(*_logs(instances, log_files, warnings), *kept.log_files),
        own=_try(addresses.own, before.own, warnings) | _proxies(instances),
        connected=_try(addresses.connected, before.connected, warnings),
        gateways=_try(addresses.gateways, before.gateways, warnings),
        resolvers=_try(addresses.resolvers, before.resolvers, warnings),
        relays=_relays(instances, before, warnings) | kept.relays,
        mynetworks=_unique(*_trusted(instances, before, warnings), *kept.mynetworks),
        xclient=_unique(*xclient, *kept.xclient),
        xforward=_unique(*xforward, *kept.xforward),
        hostnames=_hostnames(instances).union(former, hosts, kept.hostnames),
        former=former,
        sasl_domain=_sasl_domain(instances) or kept.sasl_domain,
        delimiters=_delimiters(instances) or kept.delimiters,
        pipes=_pipes(instances) | kept.pipes,
        asked=_asked(instances) | kept.asked,
        config_directories=directories,
        files=_unique(*_files(directories, instances, before), RESOLV_CONF),
        scopes=dict(scopes),
        warnings=_unique(*warnings),
    )
    return _usable(facts)


def _usable(facts: Facts) -> Facts:
    """Return facts without addresses that are none (`fe80::1%eth0`), which `warnings` then name."""
    found: dict[str, Collection[str]] = {name: getattr(facts, name) for name in _ADDRESSES}
    bad = _unique(*(a for group in found.values() for a in group if not address.is_subject(a)))
    if not bad:
        return facts
    good = {n: type(group)(a for a in group if a not in bad) for n, group in found.items()}  # type: ignore[call-arg]
    warnings = [f"not an address, skipped: {text!a}" for text in bad]
    return replace(facts, **good, warnings=(*facts.warnings, *warnings))


def _try(learn: Callable[[], Known], otherwise: Known, warnings: list[str]) -> Known:
    try:
        return learn()
    except HostError as error:
        warnings.append(error.message)
        return otherwise


def _unique(*items: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _services(
    instances: list[Instance],
    kept: Facts,
    unread: set[str],
    scopes: Mapping[str, Scope],
    warnings: list[str],
) -> tuple[Service, ...]:
    found = [service for service in kept.services if service.instance in unread]
    for directory in sorted({service.instance for service in found}):
        ports = sorted({service.port for service in found if service.instance == directory})
        warnings.append(
            f"{directory} cannot be read: the last known services are used, ports "
            f"{', '.join(map(str, ports))}"
        )
    for instance in instances:
        more, trouble = services.services(instance, scopes)
        found += more
        warnings += trouble
    if instances and not found:
        warnings.append("no service of Postfix accepts mail from the network: nothing to protect")
    warnings += services.alike(found)
    return tuple(found)


def _spools(instances: list[Instance], kept: Facts, unread: set[str]) -> tuple[Spool, ...]:
    found = [spool for spool in kept.spools if spool.instance in unread]
    return (*found, *filter(None, map(services.spool, instances)))


def _logs(instances: list[Instance], log_files: Sequence[str], warnings: list[str]) -> list[str]:
    """Return the log of each instance, or, without any, the system's."""
    found = []
    by_syslog = [path for path in log_files if Path(path).exists()][:1]
    for path in [i.parameters.get("maillog_file", "") for i in instances] or [""]:
        if path.startswith("/dev/"):
            warnings.append(
                f"Postfix logs to {path}, which no other program can read: see [log] files"
            )
        else:
            found += [path] if path else by_syslog
    return found


def _files(directories: Collection[str], instances: list[Instance], before: Facts) -> Iterator[str]:
    """Yield what the facts are read from; of an instance that cannot be read what it was so far."""
    for directory in directories:
        yield from (f"{directory}/main.cf", f"{directory}/master.cf")
    for instance in instances:
        yield from mynetworks.files(instance)
    if len(instances) < len(directories):
        yield from before.files


def _proxies(instances: list[Instance]) -> set[str]:
    """Return the outer addresses of a NAT before this host (postconf(5), proxy_interfaces)."""
    found = set()
    for instance in instances:
        for text in split(instance.parameters.get("proxy_interfaces", "")):
            with suppress(ValueError):  # a name: Postfix compares it with names only
                found.add(address.canonical(text.strip("[]")))
    return found


def _relays(instances: list[Instance], before: Facts, warnings: list[str]) -> frozenset[str]:
    hosts = [host for i in instances for host in split(i.parameters.get("relayhost", ""))]
    found, trouble = relays.relays(hosts, _RESOLVE)
    warnings += trouble
    return frozenset(found) | (before.relays if trouble else frozenset())


def _trusted(instances: list[Instance], before: Facts, warnings: list[str]) -> list[str]:
    found = []
    for instance in instances:
        more, trouble = mynetworks.networks(instance, before.mynetworks)
        found += more
        warnings += trouble
    return found


def _authorised(
    instances: list[Instance], parameter: str, before: Iterable[str], warnings: list[str]
) -> list[str]:
    found = []
    for instance in instances:
        more, trouble = mynetworks.authorised(instance, parameter, before)
        found += more
        warnings += trouble
    return found


def _sasl_domain(instances: list[Instance]) -> str:
    """Return the first domain that login names without one belong to (postconf(5))."""
    domains = (i.parameters.get("smtpd_sasl_local_domain", "") for i in instances)
    return next(filter(None, domains), "")


def _delimiters(instances: list[Instance]) -> str:
    """Return what begins an extension in each instance that knows any (postconf(5))."""
    each = [d for i in instances if (d := i.parameters.get("recipient_delimiter", ""))]
    return "".join(sorted(set.intersection(*map(set, each)))) if each else ""


def _asked(instances: list[Instance]) -> frozenset[str]:
    """Return about what Postfix asks the daemon, as its lists of restrictions say."""
    return frozenset(
        about
        for instance in instances
        for parameters in (instance.parameters, *(e.parameters for e in instance.entries))
        for about, name in (("data", DATA), ("recipient", RECIPIENT))
        if disconnected(value := parameters.get(name, "")) != value
    )


def _pipes(instances: list[Instance]) -> frozenset[str]:
    """Return the transports of mailboxes that are pipes, as to Dovecot's delivery agent.

    Other pipes are content filters and mailing lists: their mail comes back, or goes elsewhere.
    """
    return frozenset(
        entry.name
        for i in instances
        for entry in i.entries
        if entry.process == "pipe"
        and entry.name in {i.parameters.get(name, "").partition(":")[0] for name in _TRANSPORTS}
    )


def _hostnames(instances: list[Instance]) -> frozenset[str]:
    """Return this host's names as Postfix knows them; see `Facts.ours` for their short forms.

    A service with a myhostname of its own, as content filters have, is so named in postlogd's log.
    """
    names = (
        parameters.get("myhostname", "")
        for i in instances
        for parameters in (i.parameters, *(entry.parameters for entry in i.entries))
    )
    return frozenset(name for name in names if name)
