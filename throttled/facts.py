"""What is so on this host: its Postfix services, addresses and names. Frozen; pure.

`host/` learns it and makes a new `Facts` when something changes; `decide/` and all above read it.
"""

from msgspec import Struct

from throttled.model import Scope


class Service(Struct, frozen=True):
    """One line of a master.cf that receives SMTP from the network."""

    instance: str  # configuration directory
    name: str  # as in master.cf: smtp, submission, 2525
    process: str  # smtpd or postscreen
    tag: str  # its syslog_name: postfix, postfix/submission
    port: int
    scope: Scope
    proxy: str = ""  # the protocol by which a proxy in front names the clients
    processes: int = 100  # smtpd processes that it may have; 0: any number
    tls: bool = False  # TLS from the start (smtpd_tls_wrappermode): the client speaks first


class Spool(Struct, frozen=True):
    """The queue of one Postfix instance, below which its policy requests can be answered."""

    instance: str  # configuration directory
    directory: str  # queue_directory
    owner: str  # mail_owner
    processes: int  # smtpd processes that its smallest service may have


class Facts(Struct, frozen=True):
    """What is so on this host. An input like any other; sent again when it changes."""

    services: tuple[Service, ...] = ()
    spools: tuple[Spool, ...] = ()
    log_files: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()  # addresses of this host
    connected: tuple[str, ...] = ()  # private networks that its interfaces are in
    gateways: frozenset[str] = frozenset()
    resolvers: frozenset[str] = frozenset()
    relays: frozenset[str] = frozenset()  # relayhost, resolved
    mynetworks: tuple[str, ...] = ()  # networks, without those too wide to be meant
    xclient: tuple[str, ...] = ()  # networks whose hosts may name other clients by XCLIENT
    xforward: tuple[str, ...] = ()  # … by XFORWARD, in the log only: content filters
    hostnames: frozenset[str] = frozenset()  # of this host, and of others whose lines count
    former: frozenset[str] = frozenset()  # of these, names of the kernel since the start
    sasl_domain: str = ""  # smtpd_sasl_local_domain: names the same account as no domain
    delimiters: str = ""  # recipient_delimiter: what is behind one names the same mailbox
    pipes: frozenset[str] = frozenset()  # transports that deliver to mailboxes by pipe(8)
    asked: frozenset[str] = frozenset()  # about what Postfix asks us: data, recipient
    config_directories: tuple[str, ...] = ()  # of the Postfix instances
    files: tuple[str, ...] = ()  # that Postfix's settings were read from
    scopes: dict[str, Scope] = {}  # what the operator says of syslog tags
    warnings: tuple[str, ...] = ()

    def ours(self, host: str) -> bool:
        """Return whether a host name in a log is one whose lines count.

        Case does not matter. Loggers write the whole name or its first label: a name without a dot
        is that of each name which begins with it, two whole names have to be the same.
        """
        host = host.lower().rstrip(".")
        label = host.partition(".")[0]
        for name in map(str.lower, self.hostnames):
            short = name.partition(".")[0]
            if host == name or (label == short and (host == label or name == short)):
                return True
        return False

    def scope_of(self, instance: str) -> Scope:
        """Return the scope of a syslog tag: the operator's, a service's, what its name suggests."""
        if instance in self.scopes:
            return self.scopes[instance]
        for service in self.services:
            if service.tag == instance:
                return service.scope
        last = instance.rpartition("/")[2]
        return "submission" if last.startswith(("submission", "smtps")) else "mx"

    def proxied(self, instance: str) -> bool:
        """Return whether all services of a syslog tag learn their clients from a proxy."""
        proxies = [service.proxy for service in self.services if service.tag == instance]
        return bool(proxies) and all(proxies)

    def ports(self, scope: Scope) -> tuple[int, ...]:
        """Return the distinct ports of a scope, ascending."""
        return tuple(sorted({s.port for s in self.services if s.scope == scope}))
