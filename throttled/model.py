"""The nouns that travel between the rooms. Frozen, without behaviour beyond their own fields.

Times: `time`, `since`, `until` are wall-clock seconds since the epoch (what the store keeps and a
person reads); `seconds` is a duration; `at` is the boot clock (see `throttled.clock`), on which
windows run. Subjects are canonical text (see `throttled.address`).
"""

from typing import Literal

from msgspec import Struct, field

Scope = Literal["mx", "submission"]
SCOPES: tuple[Scope, ...] = ("mx", "submission")

#: Where the daemon answers policy requests, below queue_directory, so that it works inside and
#: outside of smtpd's chroot.
POLICY_SOCKET = "throttled/policy"
#: The policy_context of requests about recipients (Postfix 3.1).
POLICY_RECIPIENT = "recipient"

#: What the kernel does to a subject. "exempt", of a single address only: entries of the networks
#: around it do not apply to it.
Action = Literal["throttle", "ban", "exempt"]
ACTIONS: tuple[Action, ...] = ("throttle", "ban", "exempt")
#: Of a subject: what was done to it.
DONE: dict[Action, str] = {"throttle": "throttled", "ban": "banned", "exempt": "exempt"}
#: What an unban removes.
RESTRICTING: tuple[Action, ...] = ("throttle", "ban")
Mode = Literal["observe", "throttle", "enforce"]

Kind = Literal[
    "connect",
    "disconnect",
    "lost_connection",
    "timeout",
    "too_many_errors",
    "reject",
    "auth_failure",
    "pipelining",
    "non_smtp_command",
    "bad_address",
    "bare_newline",
    "tls_failure",
    "rate_limit",
    "concurrency_limit",
    "pregreet",
    "dnsbl",
    "hangup",
    "command_limit",
    "denylisted",
    "screened",
    "passed",
    "accepted",
    "login",
    "proxied",
    "queued",
    "active",
    "delivery",
    "removed",
    "expired",
    "held",
    "requeued",
    "peak",
    "saturated",
    "lines_lost",
    "policy_request",
]

#: Why a `reject` or an `auth_failure` happened, as far as points care. "" = none of these.
Reason = Literal[
    "",
    "relay",  # Relay access denied
    "unknown_user",  # recipient unknown
    "dnsbl",  # blocked using a DNS list
    "syntax",  # HELO, sender or recipient that cannot be valid
    "access",  # refused by the operator's own access rules, with access(5)'s own text
    "protocol",  # pipelining, bare newline, postscreen's protocol error
    "content",  # content, size, quota, sender domain, policy service: says nothing of the client
    "milter",  # milter-reject: content, judged by another program
    "temporary",  # other 4xx; a DNS list's own error; AUTH: our authentication server is down
    "aborted",  # AUTH: the client gave up
]


class Message(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a line says of a message in Postfix's queue."""

    queue_id: str  # as written; short ids are used again; "" before a filter before the queue
    #: The queue id that it had before a content filter (XFORWARD) or `postsuper -r`.
    previous: str = ""
    #: `delivery`, `proxied`: the id at the next server or the filter, in its words.
    following: str = ""
    sender: str | None = None  # of the envelope, as written; None: not in this line
    recipient: str = ""
    original: str = ""  # the recipient before it was rewritten (orig_to)
    relay: str = ""  # address of the next server; else "none", "local", a transport's name
    uid: int = -1  # `queued`: who called sendmail(1)
    size: int = 0  # bytes
    recipients: int = 0  # that are still to be delivered to
    dsn: str = ""  # enhanced status code; "" in Postfix before 2.3
    status: str = ""  # sent, deferred, bounced, softbounce, deliverable, undeliverable …


class Event(Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that Postfix logged about a client, a message, or about itself."""

    kind: Kind
    client: str  # canonical address; "" where the line names none
    process: str  # smtpd, postscreen, anvil, master
    instance: str  # syslog tag without the process: postfix, postfix/submission
    pid: int
    time: float  # the line's own time, seconds since the epoch; 0.0 where it has none
    host: str = ""
    name: str = ""  # the client's forward-confirmed host name; "" where unknown
    count: int = 1
    where: str = ""  # the SMTP stage: CONNECT, RCPT, AUTH, DATA …
    code: int = 0  # SMTP reply code of a reject
    reason: Reason = ""
    user: str = ""  # SASL user name, as written by the client
    port: int = 0  # the client's port, where logged
    service: str = ""  # anvil's and the rate limits' service name
    text: str = ""  # the rest, written by the client or for people; never parsed again
    #: `disconnect`: per SMTP command (accepted, total); {"commands": (0, 0)} when nothing was sent.
    commands: dict[str, tuple[int, int]] | None = None
    null_sender: bool = False  # a refused recipient of a bounce or a sender callout
    message: Message | None = None  # of `accepted`, `login` and the kinds about the queue


class Rate(Struct, frozen=True, gc=False):
    """How many new connections a throttled subject may open."""

    count: int  # connections in `per`
    per: float  # seconds: a second, a minute, an hour or a day
    burst: int  # connections at once


#: Lines that go with a decision at most; of lines that counted `explain` shows as many.
LINES = 16


class Line(Struct, frozen=True, gc=False):
    """Where a log line stands: enough to read it back."""

    source: int  # the store's number of (path, device, inode)
    offset: int  # bytes


class Crossing(Struct, frozen=True, gc=False):
    """A subject that went above a threshold of a limit; not yet a decision."""

    subject: str
    scope: Scope
    limit: str
    action: Action  # soft asks for a throttle, hard for a ban
    value: int
    threshold: int
    within: float  # seconds
    count: str = "errors"  # what the limit counts; "handshakes": connections that the kernel saw
    name: str = ""  # host name, for protection by suffix
    lines: tuple[Line, ...] = ()
    pid: int = 0  # of the smtpd whose session crossed it; 0: none
    port: int = 0  # the client's port in that session, where logged
    plain: int = 0  # the threshold as configured, before good evidence; 0 = the same
    good: int = 0  # good events of its kind within the window


class Report(Struct, frozen=True, gc=False):
    """A subject that crossed a limit whose mode is "report"; nothing is done about it."""

    time: float
    subject: str
    limit: str
    count: str
    value: int
    threshold: int
    within: float  # seconds
    shown: str  # the subject as its name was first written
    above: Literal["soft", "hard"] = "soft"  # which threshold `threshold` is


class SenderDay(Struct, gc=False):
    """What a sender did in one day (UTC)."""

    subject: str
    day: int  # since the epoch
    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    bounces: int = 0
    deferrals: int = 0
    received: int = 0  # messages for a domain or a mailbox


class SenderRow(Struct, frozen=True, gc=False):
    """What a sender did in one day, and what is usual for it."""

    subject: str
    messages: int
    recipients: int
    bytes: int
    bounces: int
    deferrals: int
    usual: int  # recipients, on average of the earlier days with mail; 0: there is none
    highest: int  # recipients, of the earlier days
    received: int = 0  # messages for a domain


class Past(Struct, frozen=True, gc=False):
    """What the store knows of a subject when it crosses a limit."""

    offences: int = 0  # bans so far
    last_offence: float = 0.0  # end of the latest ban
    action: Action | None = None  # what is active
    until: float = 0.0
    deliveries: int = 0  # messages accepted from it, remembered for 30 days
    delivery_days: int = 0  # distinct days with deliveries, in 30 days
    logins: int = 0
    last_login: float = 0.0
    exempt_until: float = 0.0  # an operator's unban with an exemption
    rate: Rate | None = None  # of a throttle active; None = the configured one


class NetworkPast(Struct, frozen=True, gc=False):
    """What the store knows of the network of a subject."""

    banned: int = 0  # distinct addresses of it banned within a day, and since it was unbanned
    good: int = 0  # distinct addresses of it with good evidence within 30 days
    action: Action | None = None
    until: float = 0.0
    exempt_until: float = 0.0  # an operator's unban with an exemption
    rate: Rate | None = None  # of a throttle active; None = the configured one


class Decision(Struct, frozen=True, gc=False, omit_defaults=True):
    """What is to be done about a subject, and why. Recorded before it is applied."""

    time: float
    action: Literal["throttle", "ban", "exempt", "release"]
    subject: str
    scope: Scope
    limit: str  # a limit's name; "network", "ladder"; "operator": manual
    level: int  # step of the ladder: 0 throttle, n the n-th ban
    until: float
    why: str  # for people; client-written text in it is escaped
    value: int = 0
    threshold: int = 0
    lines: tuple[Line, ...] = ()
    alert: str = ""  # set where an operator should look: the brake, a protected name
    rate: Rate | None = None  # of a throttle; None = the configured one
    pid: int = 0  # of the smtpd whose session caused it; 0: none
    port: int = 0  # the client's port in that session, where logged
    #: log, operator, list:NAME. By a factory: JSON shows it, also when it is this one.
    origin: str = field(default_factory=lambda: "log")
    above: Literal["", "soft", "hard"] = ""  # which threshold `threshold` is
    name: str = ""  # the client's forward-confirmed host name, where the log names it


class Evidence(Struct, frozen=True, gc=False):
    """Good evidence about an address, to be remembered by the store."""

    subject: str
    time: float
    deliveries: int = 0
    logins: int = 0


#: An hour since the epoch, and what happened in it in a scope.
Activity = tuple[int, Scope, Literal["session", "delivery", "login"]]


class Peak(Struct, frozen=True, gc=False):
    """The highest value of one limit that a client reached."""

    client: str
    scope: Scope
    limit: str
    count: str
    within: float  # seconds
    value: int


class Entry(Struct, frozen=True, gc=False):
    """One element that the kernel should hold, or, with `seconds` 0, should not hold."""

    subject: str
    scope: Scope
    action: Action
    seconds: float  # time left
    rate: Rate | None = None  # of a throttle; None = the configured one


class Element(Struct, frozen=True, gc=False):
    """One element that the kernel does hold."""

    subject: str
    scope: Scope
    action: Action
    seconds: float  # time left
    packets: int = 0  # dropped since it was added
    rate: Rate | None = None  # of a throttle; None = the configured one


class Finding(Struct, frozen=True):
    """One finding of a check."""

    state: Literal["ok", "warning", "fault"]  # on the wire; `label` is its word in text
    what: str
    hint: str = ""
    #: Of the daemon's health: the kind of finding, see `throttled.health.findings`.
    key: str = ""

    @property
    def label(self) -> str:
        """Return the state as a word for text output."""
        return "error" if self.state == "fault" else self.state


class Snapshot(Struct, frozen=True):
    """A row of `list`: what is active against a subject."""

    subject: str
    scope: Scope
    action: Action
    limit: str
    level: int
    since: float
    until: float
    why: str
    packets: int = 0
    lines: tuple[Line, ...] = field(default=())
    rate: Rate | None = None  # of a throttle; None = the configured one
    origin: str = "log"  # see `Decision`
    name: str = ""  # see `Decision`


class Change(Struct, frozen=True):
    """What an operator changed, or tried to."""

    time: float
    uid: int
    user: str  # "alice"; "root, logged in as alice"
    pid: int
    program: str  # the name of the process that asked
    op: str  # ban, unban, allow, import, reload, purge …
    subject: str  # "" where it is about none, or about many
    request: str  # JSON: all that was asked
    outcome: str  # one sentence
    ok: bool
    offline: bool = False  # without a running daemon
