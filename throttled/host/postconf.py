"""Asks Postfix's own `postconf` what an instance is configured to do.

Nothing of main.cf or master.cf is parsed here: includes, continued lines, `$name`, overrides with
`-o` and defaults of this very version are postconf's business. Owns no state. A broken main.cf or
master.cf makes postconf fail for the whole instance (Postfix would not start with it either).
"""

from msgspec import Struct

from throttled.errors import HostError
from throttled.host.command import run

PARAMETERS = (
    "default_process_limit",
    "inet_interfaces",
    "local_transport",
    "mail_owner",
    "mailbox_transport",
    "maillog_file",
    "master_service_disable",
    "myhostname",
    "mynetworks",
    "mynetworks_style",
    "postscreen_upstream_proxy_protocol",
    "proxy_interfaces",
    "queue_directory",
    "recipient_delimiter",
    "relayhost",
    "smtpd_authorized_xclient_hosts",
    "smtpd_authorized_xforward_hosts",
    "smtpd_data_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_sasl_auth_enable",
    "smtpd_sasl_local_domain",
    "smtpd_service_name",
    "smtpd_tls_wrappermode",
    "smtpd_upstream_proxy_protocol",
    "syslog_name",
    "virtual_transport",
)


class Entry(Struct, frozen=True):
    """One service of a master.cf (master(5))."""

    name: str  # smtp, 2525, 198.51.100.7:25, [::1]:10025
    kind: str  # inet, pass, unix …
    process: str  # smtpd, postscreen …
    parameters: dict[str, str]  # main.cf's, and over them its own -o
    mua: bool  # some -o refers to $mua_…, the stock master.cf's word for settings of submission
    processes: str = "-"  # at most; "-": default_process_limit, "0": any number


class Instance(Struct, frozen=True):
    """One Postfix instance, as configured."""

    directory: str
    parameters: dict[str, str]
    mynetworks_given: bool  # written in main.cf; else made from this host's interfaces
    entries: tuple[Entry, ...]


def directories() -> tuple[str, ...]:
    """Return the configuration directories of the default instance and of the others.

    Raises:
        HostError: there is no Postfix, or its configuration is broken.
    """
    default = run("postconf", "-h", "config_directory").strip()
    others = value(default, "multi_instance_directories")
    return tuple(dict.fromkeys([default, *split(others)]))


def read(directory: str) -> Instance:
    """Read one instance.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    command = ("postconf", "-c", directory)
    parameters = pairs(run(*command, "-x", *PARAMETERS))
    given = run(*command, "-n", "mynetworks") != ""
    own = overrides(directory)
    written = pairs(run(*command, "-P"))
    mua = {key.rpartition("/")[0] for key, value in written.items() if "$mua_" in value}
    entries = []
    for line in run(*command, "-M").splitlines():
        # name, type, private, unprivileged, chroot, wakeup, maxproc, command, arguments
        fields = line.split(maxsplit=8)
        if len(fields) < 8:
            raise HostError(f"{' '.join(command)} -M: not a service: {line[:80]!r}")
        service = f"{fields[0]}/{fields[1]}"
        process = fields[7].rpartition("/")[2]
        effective = {**parameters, **own.get(service, {})}
        of = (fields[0], fields[1], process, effective, service in mua, fields[6])
        entries.append(Entry(*of))
    return Instance(directory, parameters, given, tuple(entries))


def value(directory: str, name: str) -> str:
    """Return one parameter of an instance, its `$` expanded.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    return run("postconf", "-c", directory, "-xh", name).strip()


def overrides(directory: str) -> dict[str, dict[str, str]]:
    """Return the `-o` of each service that has some (`smtp/inet`), their `$` expanded.

    Raises:
        HostError: there is no Postfix, or the configuration there is broken.
    """
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs(run("postconf", "-c", directory, "-Px")).items():
        service, _, parameter = key.rpartition("/")
        found.setdefault(service, {})[parameter] = value
    return found


def split(value: str) -> list[str]:
    """Split a list as Postfix does: at commas and white space, but not within braces."""
    items = [""]
    depth = 0
    for character in value:
        depth += (character == "{") - (character == "}" and depth > 0)
        if depth == 0 and (character == "," or character.isspace()):
            items.append("")
        else:
            items[-1] += character
    return [item for item in items if item]


def pairs(output: str) -> dict[str, str]:
    """Take `name = value` lines apart."""
    lines = (line.partition("=") for line in output.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
