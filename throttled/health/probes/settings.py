"""Postfix's settings that decide whether `throttled` can do its work. Asks postconf."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from throttled.config.schema import FirewallPorts
from throttled.errors import HostError
from throttled.facts import Facts
from throttled.host.command import run
from throttled.host.postconf import split
from throttled.model import SCOPES, Finding

#: Reply codes of what counts as an offence (postconf(5)).
_CODES = (
    "access_map_reject_code",
    "invalid_hostname_reject_code",
    "maps_rbl_reject_code",
    "non_fqdn_reject_code",
    "reject_code",
    "relay_domains_reject_code",
    "unknown_local_recipient_reject_code",
    "unknown_relay_recipient_reject_code",
    "unknown_virtual_alias_reject_code",
    "unknown_virtual_mailbox_reject_code",
)
#: Restrictions that make others answer with 4xx, or refuse nothing (postconf(5)).
_DEFERRING = ("defer_unauth_destination",)
_TRYING = ("defer_if_reject", "warn_if_reject")
_DEV_LOG = Path("/dev/log")
_RELAY = "smtpd_relay_restrictions"  # the default has such a restriction
_OTHERS = ("debug_peer_list", "maillog_file", "queue_directory", "soft_bounce", "syslog_facility")


def check(facts: Facts, named: FirewallPorts | None = None) -> Iterator[Finding]:
    """Say which services there are, and what in each instance's settings is in our way.

    Args:
        facts: what is known of Postfix here.
        named: the ports that the operator says are to be filtered, whatever Postfix is here.
    """
    for scope in SCOPES:
        ports = ", ".join(map(str, facts.ports(scope)))
        yield Finding("ok", f"Postfix, {scope}: " + (f"port {ports}" if ports else "no service"))
    yield from _filtered(facts, named)
    for warning in facts.warnings:
        yield Finding("warning", warning)
    for directory in facts.config_directories:
        try:
            known = _ask(directory, "-x", *_CODES, *_OTHERS)
            # Written anywhere: restriction classes have names of the operator's.
            lists = _ask(directory, "-x", _RELAY) | _ask(directory, "-nx") | _ask(directory, "-Px")
            services = run("postconf", "-c", directory, "-M")
        except HostError:
            continue  # reported among the facts' warnings
        yield from _softened(directory, known, lists)
        yield from _settings(directory, known)
        yield from _services(directory, known, services)


def _ask(directory: str, *arguments: str) -> dict[str, str]:
    output = run("postconf", "-c", directory, *arguments)
    lines = (line.partition("=") for line in output.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _softened(directory: str, known: dict[str, str], lists: dict[str, str]) -> Iterator[Finding]:
    """Name what answers a permanent refusal with 4xx: that is no way to avoid a limit."""
    found = list(_uses(lists, _DEFERRING))
    found += ["soft_bounce = yes"] if known.get("soft_bounce") == "yes" else []
    found += [f"{name} = {known[name]}" for name in _CODES if known.get(name, "").startswith("4")]
    if found:
        what = f"{directory}: 4xx instead of 5xx by {', '.join(found)}"
        yield Finding("ok", f"{what}: such refusals are counted too")
    if trying := list(_uses(lists, _TRYING)):
        what = f"{directory}: {', '.join(trying)}: requests that are not refused are not counted"
        yield Finding("ok", what)


def _uses(lists: dict[str, str], words: Iterable[str]) -> Iterator[str]:
    """Yield where restrictions are used; a service's own name is `smtp/inet/parameter`."""
    for name, value in lists.items():
        for word in words:
            if word in split(value):
                yield f"{word} in {name}"


def _filtered(facts: Facts, named: FirewallPorts | None) -> Iterator[Finding]:
    """Say which ports are filtered; where no Postfix is known the operator's word will do."""
    if named is not None:
        ports = ", ".join(map(str, (*named.mx, *named.submission)))
        elsewhere = "" if facts.services else "; Postfix seems to run in a container"
        yield Finding("ok", f"[firewall] ports: {ports} filtered{elsewhere}")
    elif not facts.services:
        hint = "see: postconf -M; is it in a container? Set [firewall] ports and [log] files"
        yield Finding("fault", "Postfix has no SMTP service on the network", hint)


def _settings(directory: str, known: dict[str, str]) -> Iterator[Finding]:
    if known.get("debug_peer_list"):
        what = f"{directory}: debug_peer_list makes Postfix log every step of some clients"
        yield Finding("warning", what, "remove it when the debugging is done")
    if not known.get("maillog_file") and known.get("syslog_facility", "mail") != "mail":
        facility = known["syslog_facility"]
        what = f"{directory}: syslog_facility = {facility}: the journal is read for mail only"
        yield Finding("warning", what, "set it to mail, or name the log in [log] files")


def _services(directory: str, known: dict[str, str], services: str) -> Iterator[Finding]:
    chrooted = False
    for line in services.splitlines():
        fields = line.split(maxsplit=7)
        if len(fields) < 8:  # reported among the facts' warnings
            continue
        name, kind, _private, _unprivileged, chroot, *_wakeup, arguments = fields
        if kind != "inet" or arguments.split()[0] not in {"smtpd", "postscreen"}:
            continue
        chrooted |= chroot == "y"
        if "-v" in arguments.split():
            what = f"{directory}: {name} runs with -v: a flood of debug lines for each client"
            yield Finding("warning", what, "remove -v from master.cf")
    socket = Path(known.get("queue_directory", "/var/spool/postfix"), "dev/log")
    # systemd keeps /dev/log open while the logger behind it is restarted.
    by_syslogd = not known.get("maillog_file") and not _DEV_LOG.is_symlink()
    if chrooted and by_syslogd and not socket.exists():
        what = f"{directory}: smtpd is chrooted and {socket} is not there"
        hint = (
            "after a restart of the syslog daemon its lines are lost: let rsyslog listen there "
            f'(input(type="imuxsock" Socket="{socket}")), or set chroot to n in master.cf'
        )
        yield Finding("warning", what, hint)
