"""The whole configuration file as types: every key with its default, bounds and description.

The sections that deciding needs come from `throttled.settings`; those that say where things are
(log, Postfix, firewall, store, control socket, metrics) are here. Checks that need more than one
key are in `checks`. Owns no state. Where words are needed for what a type allows, they are in the
type's `extra={"form": …}`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from throttled.log_paths import container_journal
from throttled.model import JOURNAL, SCOPES, Facts, Mode, Scope
from throttled.settings import (
    Accounts,
    Ban,
    Believe,
    Duration,
    Good,
    Guessing,
    Limit,
    Network,
    Overload,
    Points,
    Policy,
    Protect,
    Throttle,
    default_limits,
    duration,
)

_POLICY = Policy()

FilePath = Annotated[
    str, Meta(pattern=r"\A/[^\0]*\Z", max_length=4096, extra={"form": "an absolute path"})
]
OptionalPath = Annotated[
    str, Meta(pattern=r"\A(?:/[^\0]*)?\Z", max_length=4096, extra={"form": "an absolute path"})
]
FleetName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z|\A\Z",
        extra={"form": "letters, digits, ., _ and -, at most 63 characters"},
    ),
]
#: The kernel's limit for the path of a UNIX socket is 107 bytes (sun_path, unix(7)).
SocketPath = Annotated[
    str,
    Meta(
        pattern=r"\A/[\x21-\x7e]*\Z",
        max_length=107,
        extra={"form": "an absolute path of at most 107 characters"},
    ),
]
#: Without comments, quotes and lists: it becomes a recipient of SMTP as it is.
MailAddress = Annotated[
    str,
    Meta(
        pattern=r"\A(?:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+(?:@[A-Za-z0-9][A-Za-z0-9.-]*)?)?\Z",
        max_length=320,
        extra={"form": "a mail address"},
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Meta(max_length=15)]
HostName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,255}\Z", extra={"form": "a host name"})]
#: As docker allows them, and podman.
Container = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z", extra={"form": "a container's name"}),
]
Tag = Annotated[str, Meta(pattern=r"\A[\x21-\x7e]{1,255}\Z", extra={"form": "a syslog name"})]
LimitName = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9][a-z0-9-]{0,39}\Z",
        extra={"form": "a name of small letters, digits and -, at most 40 characters"},
    ),
]


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """Where Postfix's log is read."""

    files: Annotated[
        Literal["auto"] | Annotated[tuple[FilePath, ...], Meta(max_length=64)],
        Meta(
            description=(
                'the files, with * for any characters but /; "auto": maillog_file of Postfix, '
                "else /var/log/mail.log or /var/log/maillog"
            )
        ),
    ] = "auto"
    journal: Annotated[
        Literal["auto"] | bool,
        Meta(
            description='read systemd\'s journal; "auto": only where there is no file and container'
        ),
    ] = "auto"
    containers: Annotated[
        tuple[Container, ...],
        Meta(
            max_length=64,
            description=(
                "names of containers that log to systemd's journal "
                "(docker's or podman's journald driver, run by root)"
            ),
        ),
    ] = ()


class Postfix(Struct, frozen=True, forbid_unknown_fields=True):
    """The Postfix whose clients are counted."""

    config_directories: Annotated[
        Literal["auto"] | Annotated[tuple[FilePath, ...], Meta(min_length=1, max_length=64)],
        Meta(description='where main.cf is; "auto": the default one and its other instances'),
    ] = "auto"
    hosts: Annotated[
        tuple[HostName, ...],
        Meta(
            max_length=256,
            description="other host names whose lines in the log count, for a log of several hosts",
        ),
    ] = ()
    scopes: Annotated[
        dict[Tag, Scope],
        Meta(
            max_length=64,
            description=(
                "scopes of syslog names that are not in master.cf, "
                'as { "postfix/2525" = "submission" }'
            ),
        ),
    ] = field(default_factory=dict)


class FirewallPorts(Struct, frozen=True, forbid_unknown_fields=True):
    """The ports that are filtered, as on the wire: before any DNAT."""

    mx: Annotated[Ports, Meta(description="where other mail servers deliver")] = (25,)
    submission: Annotated[Ports, Meta(description="where users submit mail")] = (465, 587)


class Firewall(Struct, frozen=True, forbid_unknown_fields=True):
    """What enforces throttles and bans."""

    backend: Annotated[
        Literal["auto", "nftables", "iptables", "xdp", "dryrun"],
        Meta(
            description=(
                '"auto": nftables, or iptables where only that works, never XDP; "iptables": for '
                'hosts with legacy iptables; "xdp": before the network stack, '
                'for larger floods; "dryrun": nothing is changed'
            )
        ),
    ] = "auto"
    xdp_mode: Annotated[
        Literal["generic", "native"],
        Meta(
            description=(
                '"generic": works on every interface; "native": in the driver, where it can: '
                "faster, but attaching resets some network cards"
            )
        ),
    ] = "generic"
    ports: Annotated[
        Literal["auto"] | FirewallPorts,
        Meta(
            description=(
                '"auto": those of Postfix\'s services, or as { mx = [25], submission = [465, 587] }'
            )
        ),
    ] = "auto"
    on_stop: Annotated[
        Literal["leave", "remove"],
        Meta(description='"leave": entries stay until they expire; "remove": all are removed'),
    ] = "leave"
    size: Annotated[
        int, Meta(ge=1_000, le=16_000_000, description="maximum number of addresses in each set")
    ] = 2_000_000
    reject: Annotated[
        bool,
        Meta(
            description=(
                "at the ports of submission refuse banned and throttled clients with a TCP reset, "
                "at most 1,000 a second, instead of dropping their packets: users see an error at "
                "once and not a timeout; port 25 always drops; XDP cannot refuse, it drops"
            )
        ),
    ] = False


class Sensor(Struct, frozen=True, forbid_unknown_fields=True):
    """The sensor, which counts connections without the log."""

    handshakes: Annotated[
        Literal["auto"] | bool,
        Meta(
            description=(
                "count completed connections in the kernel, also those that Postfix is too busy to "
                'log; "auto": if the kernel can; true: warn if it cannot'
            )
        ),
    ] = "auto"


class Store(Struct, frozen=True, forbid_unknown_fields=True):
    """The database of decisions."""

    path: Annotated[FilePath, Meta(description="the SQLite database")] = (
        "/var/lib/throttled/throttled.db"
    )


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """How the commands reach the daemon."""

    socket: Annotated[SocketPath, Meta(description="the UNIX socket")] = (
        "/run/throttled/control.sock"
    )
    group: Annotated[
        str,
        Meta(
            pattern=r"\A(?:[A-Za-z_][A-Za-z0-9_.-]{0,31})?\Z",
            extra={"form": "the name of a group"},
            description='the group that may use it besides root; "": none',
        ),
    ] = ""


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics for Prometheus."""

    listen: Annotated[
        str,
        Meta(
            pattern=(
                r"\A(?:(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}"
                r"|/[^\x00-\x1f\x7f]{0,105}[^\x00-\x1f\x7f/])?\Z"
            ),
            extra={"form": "ADDRESS:PORT, or the path of a UNIX socket"},
            description=(
                "where metrics are served over HTTP, without a password: ADDRESS:PORT, "
                'or the path of a UNIX socket; "": nowhere'
            ),
        ),
    ] = "127.0.0.1:9547"


class Notify(Struct, frozen=True, forbid_unknown_fields=True):
    """Notifications."""

    command: Annotated[
        tuple[Annotated[str, Meta(max_length=4096)], ...],
        Meta(
            max_length=64,
            description="a program and its arguments, given JSON on standard input; no shell",
        ),
    ] = ()
    url: Annotated[
        str,
        Meta(
            pattern=r"\A(?:https?://[\x21-\x7e]+)?\Z",
            max_length=2000,
            extra={"form": "a URL of http or https"},
            description="where the JSON is posted",
        ),
    ] = ""
    on: Annotated[
        tuple[Literal["ban", "alert", "health"], ...],
        Meta(
            max_length=3,
            description='"ban": each ban; "alert": needs attention; "health": changed findings',
        ),
    ] = ("alert", "health")
    accounts: Annotated[
        bool, Meta(description="name accounts, users, mailboxes and domains that are reported")
    ] = False
    every: Annotated[
        Duration,
        Meta(description="at most one message in this time, with all events since the last"),
    ] = duration("30s")
    mail: Annotated[
        MailAddress,
        Meta(description='who gets them by mail, as postmaster or root@example.org; "": nobody'),
    ] = ""
    mail_every: Annotated[
        Duration, Meta(description="at most one mail in this time, with all events since the last")
    ] = duration("1h")
    smtp: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9.:\[\]_-]{1,255}:[0-9]{1,5}\Z",
            extra={"form": "HOST:PORT"},
            description="the mail server that mail is given to, without a login",
        ),
    ] = "localhost:25"
    timeout: Annotated[
        Duration, Meta(description="after this time the program or request is ended")
    ] = duration("10s")


class Fleet(Struct, frozen=True, forbid_unknown_fields=True):
    """Bans shared with other hosts over a Redis or Valkey server."""

    site: Annotated[
        FleetName,
        Meta(description='name of the fleet, the same on all its hosts; "": no fleet'),
    ] = ""
    name: Annotated[
        FleetName,
        Meta(description='of this host, and its user at the Redis server; "": its host name'),
    ] = ""
    server: Annotated[
        str,
        Meta(
            pattern=(
                r"\A(?:rediss?://[\x21-\x7e]+|unix:///[\x21-\x7e]+"
                r"|sentinels?://[\x21-\x2e\x30-\x7e]+/[\x21-\x2e\x30-\x7e]+)\Z"
            ),
            max_length=1000,
            extra={"form": "a URL of redis, rediss (TLS), unix, sentinel or sentinels (TLS)"},
            description=(
                "the Redis server: rediss://HOST:6379 with TLS, unix:///PATH, or "
                "sentinels://HOST:26379,HOST:26379/NAME"
            ),
        ),
    ] = "rediss://localhost:6379"
    secret: Annotated[
        FilePath,
        Meta(description="a file with the secret of the fleet, mode 0600: throttled fleet key"),
    ] = "/etc/throttled/fleet.key"  # noqa: S105 - a path
    password: Annotated[
        OptionalPath,
        Meta(description='a file with the password of this host at the Redis server; "": none'),
    ] = ""
    ca: Annotated[
        OptionalPath,
        Meta(description="the certificates that may sign the Redis server's; \"\": the system's"),
    ] = ""
    cert: Annotated[OptionalPath, Meta(description='the certificate of this host; "": none')] = ""
    key: Annotated[OptionalPath, Meta(description='the key of that certificate; "": none')] = ""
    peers: Annotated[
        Literal["any"] | Annotated[tuple[FleetName, ...], Meta(max_length=256)],
        Meta(description='hosts that are listened to; "any": all that have the secret'),
    ] = "any"
    share: Annotated[
        tuple[Literal["bans", "unbans", "names"], ...],
        Meta(
            max_length=3,
            description=(
                "what this host publishes: bans; operators' unbans; user names tried, as keyed "
                "hashes; []: it only listens"
            ),
        ),
    ] = ("bans", "unbans", "names")
    believe: Annotated[
        Believe,
        Meta(
            description=(
                'what a peer\'s ban becomes here: "ban"; "throttle"; "report": nothing is done'
            )
        ),
    ] = "ban"
    unban: Annotated[
        bool, Meta(description="a peer's unban also removes what was decided on this host")
    ] = True
    longest: Annotated[
        Duration, Meta(description="a peer's ban lasts at most this long on this host")
    ] = duration("1d")
    most: Annotated[
        int, Meta(ge=1, le=2_000_000, description="maximum number of active entries of one peer")
    ] = 100_000
    socket: Annotated[
        SocketPath, Meta(description="the UNIX socket of throttled-fleet.service")
    ] = "/run/throttled-fleet/process.sock"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    mode: Annotated[
        Mode,
        Meta(
            description=(
                '"observe": decide and log, change nothing; "throttle": never ban; '
                '"enforce": throttle and ban'
            )
        ),
    ] = _POLICY.mode
    max_clients: Annotated[
        int,
        Meta(
            ge=1_000,
            le=10_000_000,
            description="clients counted at a time; above that the longest idle are evicted",
        ),
    ] = _POLICY.max_clients
    log: Log = Log()
    postfix: Postfix = field(default_factory=Postfix)
    limits: Annotated[dict[LimitName, Limit], Meta(max_length=64)] = field(
        default_factory=default_limits
    )
    points: Points = _POLICY.points
    throttle: Throttle = _POLICY.throttle
    ban: Ban = field(default_factory=Ban)
    good: Good = _POLICY.good
    network: Network = field(default_factory=Network)
    protect: Protect = _POLICY.protect
    accounts: Accounts = _POLICY.accounts
    guessing: Guessing = field(default_factory=Guessing)
    overload: Overload = field(default_factory=Overload)
    firewall: Firewall = Firewall()
    sensor: Sensor = Sensor()
    store: Store = Store()
    control: Control = Control()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    fleet: Fleet = field(default_factory=Fleet)

    def policy(self) -> Policy:
        """Return what deciding needs of it."""
        return Policy(**{name: getattr(self, name) for name in Policy.__struct_fields__})

    @property
    def observing(self) -> bool:
        """Whether decisions are taken and recorded, but never put into a kernel."""
        return self.mode == "observe" or self.firewall.backend == "dryrun"

    def database(self) -> str:
        """Return the database's path; observing has one of its own, as its bans are not real."""
        return self.observed() if self.observing else self.store.path

    def observed(self) -> str:
        """Return the path of the database of what is only observed."""
        return f"{self.store.path.removesuffix('.db')}.observe.db"

    def filtered(self, facts: Facts) -> dict[Scope, tuple[int, ...]]:
        """Return the ports to filter: as configured, or those of Postfix."""
        ports = self.firewall.ports
        if ports == "auto":
            return {scope: facts.ports(scope) for scope in SCOPES}
        return {scope: getattr(ports, scope) for scope in SCOPES}

    def logs(self, facts: Facts) -> list[str]:
        """Return what is to be followed: files; `JOURNAL` where asked for, or nothing else is."""
        paths = list(facts.log_files if self.log.files == "auto" else self.log.files)
        paths += map(container_journal, self.log.containers)
        journal = not paths if self.log.journal == "auto" else self.log.journal
        return [*paths, JOURNAL] if journal else paths
