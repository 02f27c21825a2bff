"""The whole configuration file as types: every key with its default, bounds and description.

The sections that deciding needs come from `throttled.settings` and `throttled.limits`; those that
say where things are (log, Postfix, firewall, store, control socket, metrics) are here. Checks that
need more than one key are in `checks`. Owns no state. Where words are needed for what a type
allows, they are in the type's `extra={"form": …}`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from throttled.config.fields import (
    Container,
    FilePath,
    HostName,
    LimitName,
    MailAddress,
    Ports,
    SocketPath,
    Tag,
)
from throttled.config.fleet import Fleet
from throttled.duration import Duration, duration
from throttled.facts import Facts
from throttled.limits import Limit, default_limits
from throttled.log_paths import JOURNAL, container_journal
from throttled.model import SCOPES, Mode, Scope
from throttled.settings import (
    Accounts,
    Ban,
    Good,
    Guessing,
    Network,
    Overload,
    Points,
    Policy,
    Protect,
    Throttle,
)

_POLICY = Policy()


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
