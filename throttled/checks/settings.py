"""Postfix's settings that decide whether `throttled` can do its work. Asks postconf."""

from collections.abc import Iterator
from pathlib import Path

from throttled.config.schema import FirewallPorts
from throttled.errors import HostError
from throttled.host.command import run
from throttled.model import SCOPES, Facts, Problem

#: Reply codes of what counts as an offence (postconf(5)); a 4xx never does.
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
_DEV_LOG = Path("/dev/log")
_OTHERS = ("debug_peer_list", "maillog_file", "queue_directory", "soft_bounce", "syslog_facility")


def check(facts: Facts, named: FirewallPorts | None = None) -> Iterator[Problem]:
    """Say which services there are, and what in each instance's settings is in our way.

    Args:
        facts: what is known of Postfix here.
        named: the ports that the operator says are to be filtered, whatever Postfix is here.
    """
    for scope in SCOPES:
        ports = ", ".join(map(str, facts.ports(scope)))
        yield Problem("ok", f"Postfix, {scope}: " + (f"port {ports}" if ports else "no service"))
    yield from _filtered(facts, named)
    for warning in facts.warnings:
        yield Problem("warning", warning)
    for directory in facts.config_directories:
        try:
            output = run("postconf", "-c", directory, "-x", *_CODES, *_OTHERS)
            services = run("postconf", "-c", directory, "-M")
        except HostError:
            continue  # told among the facts' warnings
        known = {
            name.strip(): value.strip()
            for name, _, value in (line.partition("=") for line in output.splitlines())
        }
        yield from _settings(directory, known)
        yield from _services(directory, known, services)


def _filtered(facts: Facts, named: FirewallPorts | None) -> Iterator[Problem]:
    """Say which ports are filtered; where no Postfix is known the operator's word will do."""
    if named is not None:
        ports = ", ".join(map(str, (*named.mx, *named.submission)))
        elsewhere = "" if facts.services else "; Postfix is taken to be in a container"
        yield Problem("ok", f"[firewall] ports: {ports} filtered{elsewhere}")
    elif not facts.services:
        hint = "see: postconf -M; is it in a container? Set [firewall] ports and [log] files"
        yield Problem("fault", "Postfix has no SMTP service on the network", hint)


def _settings(directory: str, known: dict[str, str]) -> Iterator[Problem]:
    if known.get("soft_bounce") == "yes":
        what = f"{directory}: soft_bounce = yes makes every 5xx a 4xx, and those never count"
        yield Problem("warning", what, f"postconf -c {directory} -e soft_bounce=no")
    soft = [name for name in _CODES if known.get(name, "").startswith("4")]
    if soft:
        what = f"{directory}: refusals of {', '.join(soft)} are 4xx, and those never count"
        yield Problem("warning", what, "set them to 550 if you mean it")
    if known.get("debug_peer_list"):
        what = f"{directory}: debug_peer_list makes Postfix log every step of some clients"
        yield Problem("warning", what, "take it out when the trouble is found")
    if not known.get("maillog_file") and known.get("syslog_facility", "mail") != "mail":
        facility = known["syslog_facility"]
        what = f"{directory}: syslog_facility = {facility}: the journal is read for mail only"
        yield Problem("warning", what, "set it to mail, or name the log in [log] files")


def _services(directory: str, known: dict[str, str], services: str) -> Iterator[Problem]:
    chrooted = False
    for line in services.splitlines():
        name, kind, _private, _unprivileged, chroot, *_wakeup, arguments = line.split(maxsplit=7)
        if kind != "inet" or arguments.split()[0] not in {"smtpd", "postscreen"}:
            continue
        chrooted |= chroot == "y"
        if "-v" in arguments.split():
            what = f"{directory}: {name} runs with -v: a flood of debug lines for each client"
            yield Problem("warning", what, "take -v out of master.cf")
    socket = Path(known.get("queue_directory", "/var/spool/postfix"), "dev/log")
    # systemd keeps /dev/log open while the logger behind it is restarted.
    by_syslogd = not known.get("maillog_file") and not _DEV_LOG.is_symlink()
    if chrooted and by_syslogd and not socket.exists():
        what = f"{directory}: smtpd is chrooted and {socket} is not there"
        hint = (
            "after a restart of the syslog daemon its lines are lost: let rsyslog listen there "
            f'(input(type="imuxsock" Socket="{socket}")), or set chroot to n in master.cf'
        )
        yield Problem("warning", what, hint)
