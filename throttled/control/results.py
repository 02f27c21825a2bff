"""What the commands answer. Pure.

Limits: a reply has at most `MAX_REPLY` bytes.
"""

from typing import Literal

from msgspec import Struct, field

from throttled.control.bulk import Refusal, UnbanManyResult
from throttled.control.overload import OverloadStatus
from throttled.histogram import Histogram
from throttled.limits import LimitMode
from throttled.model import (
    Action,
    Change,
    Decision,
    Finding,
    Mode,
    Past,
    Report,
    Scope,
    SenderRow,
    Snapshot,
)

MAX_REPLY = 64 * 1024 * 1024


class TailStatus(Struct, frozen=True):
    """One log source."""

    path: str
    exists: bool
    lag: int  # bytes written and not yet read
    lines: int  # read since the start
    lines_per_second: float
    last_line: float  # wall clock; 0.0 = none yet
    problems: list[str] = []
    cut: int = 0  # lines that were too long, and cut


class PatternStatus(Struct, frozen=True):
    """A path with `*` in [log] files."""

    pattern: str
    followed: int  # files
    matching: int  # files, also those above the cap


class _Result(Struct, frozen=True, tag_field="kind"):
    pass


class Done(_Result, frozen=True, tag="done"):
    """Nothing to tell but that it is so."""

    message: str = ""


class Totals(Struct, frozen=True):
    """What happened in an hour, or a day of this host's time zone."""

    begin: float  # wall clock
    sessions: int = 0
    deliveries: int = 0
    logins: int = 0
    throttles: int = 0  # decisions; in observe mode what would have been
    bans: int = 0
    drops: int = 0  # packets


class StatusResult(_Result, frozen=True, tag="status"):
    """The state of the daemon."""

    version: str
    backend: str
    mode: Mode
    pid: int
    started: float  # wall clock
    uptime: float  # seconds
    tails: list[TailStatus]
    clients: int  # tracked
    max_clients: int
    throttled: dict[Scope, int]
    banned: dict[Scope, int]
    packets_dropped: int
    desired: int  # elements that should be in the kernel
    enforced: int  # of these, how many the kernel holds
    counted: bool  # whether the kernel counted them; else it is judged by a sample of them
    health: list[Finding]
    events: dict[str, int]  # by kind
    lines: int
    lines_lost: int
    errors: int
    decisions: dict[str, dict[str, int]] = {}  # by limit and action
    decided_in: Histogram = field(default_factory=Histogram)  # lines read -> decision recorded
    enforced_in: Histogram = field(default_factory=Histogram)  # lines read -> in the kernel
    would: bool = False  # observing: nothing of all this is in the kernel
    forgotten: int = 0  # counters of clients and sessions, early, because of a cap
    unrecorded: int = 0  # decisions that wait for the store
    unapplied: int = 0  # elements that wait for the firewall
    let_go: int = 0  # of what waited: too much
    ports: dict[Scope, tuple[int, ...]] = {}  # that the installed rules filter
    sensor: Finding | None = None  # what the sensor does, or why there is none
    exempt: dict[Scope, int] = {}
    backlog: str = ""  # what is read of existing logs at the first start; "": nothing, or all
    skipped: dict[str, int] = {}  # because of unexpected errors, by kind: line, decision, row …
    patterns: list[PatternStatus] = []
    on_hold: int = 0  # messages that we had Postfix put on hold, and that are not released yet
    answers: dict[str, int] = {}  # to Postfix's policy requests, by what was answered
    overload: list[OverloadStatus] = []  # of each scope, unless it is "off"
    days: list[Totals] = []  # yesterday and today


class MeterRow(Struct, frozen=True):
    """One meter of a subject against its limit."""

    limit: str
    scope: Scope
    value: int
    soft: int | None
    hard: int | None
    within: float  # seconds
    kernel: bool = False  # connections that the kernel saw completed; else those in the log
    proxied: bool = False  # what it did behind a proxy


class Worst(Struct, frozen=True):
    """A client near or above a threshold, with the meter that says so."""

    subject: str
    meter: MeterRow
    action: Action | None  # active in the meter's scope
    name: str = ""  # the client's host name, where the log has one
    since: float = 0.0  # of what is active in the meter's scope
    why: str = ""  # of that


class TopResult(_Result, frozen=True, tag="top"):
    """What is continuing."""

    time: float  # wall clock
    status: StatusResult
    worst: list[Worst]  # among those of the latest lines, the worst first
    latest: list[Decision]  # newest first
    hours: list[Totals] = []  # the latest 48, the oldest first


class ListResult(_Result, frozen=True, tag="list"):
    """What is active, at most `List.max` rows of `total`."""

    rows: list[Snapshot]
    total: int  # 0 in all answers but the first, as counting takes its time
    would: bool = False  # observing: none of these is in the kernel
    next: tuple[int | float | str, ...] = ()  # ask again with it as `List.after`; () = that is all


class LogText(Struct, frozen=True):
    """A log line that counted, read back from the log. `text` is raw latin-1: escape it."""

    time: float  # wall clock; 0.0 where unknown
    path: str
    offset: int  # bytes
    text: str  # "" where the log no longer holds it
    kind: str = ""  # of its event; "": no event
    reason: str = ""  # of a `reject`, an `auth_failure`


class AllowRow(Struct, frozen=True):
    """One entry of the allowlist."""

    what: str
    since: float
    until: float | None  # None = for ever
    note: str = ""
    name: str = ""  # the host name whose address it is: `Resolve`
    missing: float | None = None  # since when DNS no longer returns it for the name


class SenderMeterRow(Struct, frozen=True):
    """One meter of a sender against its limit."""

    limit: str
    count: str
    value: int
    soft: int | None
    hard: int | None
    within: float  # seconds
    mode: LimitMode
    above: bool  # all thresholds of the limit are exceeded


class SenderFacts(Struct, frozen=True):
    """What is known of a subject as a sender."""

    shown: str  # as its name was first written
    today: SenderRow  # with what is usual
    days: int  # earlier days with mail, of 35
    meters: list[SenderMeterRow]  # none without a daemon
    reports: list[Report]  # newest first
    #: Addresses (IPv6: /64) without good evidence whose logins on the account failed.
    guessed_from: int = 0


class Inside(Struct):
    """What is active inside a network, beside what is against it as a whole."""

    counts: dict[Action, int] = field(default_factory=dict)  # distinct subjects
    latest: list[Snapshot] = field(default_factory=list)  # decided, newest first


class ExplainResult(_Result, frozen=True, tag="explain"):
    """All that is known of a subject."""

    subject: str
    network: str  # "" where it is never grouped, or is a network itself
    protected: str  # the reason; "" = is not
    active: list[Snapshot]
    meters: list[MeterRow]
    sessions: int  # open now
    lines: list[LogText]
    decisions: list[Decision]  # newest first
    past: Past
    allowed: list[AllowRow]
    next: str  # what would happen next, for people
    would: bool = False  # observing: nothing of what is active is in the kernel
    hint: str = ""  # what an operator might do, for people
    proxied: list[Snapshot] = []  # what would be active, were it not behind a proxy
    sender: SenderFacts | None = None  # of accounts …, and of inside hosts
    known_good: tuple[Scope, ...] = ()  # always admitted there, see [overload]
    name: str = ""  # the client's forward-confirmed host name, where the log has one
    accounts: list[str] = []  # that the lines name: it logged in, or tried to; as it wrote them
    ports: dict[Scope, tuple[int, ...]] = {}  # that are filtered; none without a daemon
    inside: Inside = field(default_factory=Inside)  # of a network


class AccountRow(Struct, frozen=True):
    """What a sender did today (UTC), and what is usual for it."""

    subject: str
    messages: int
    recipients: int
    bytes: int
    bounces: int
    deferrals: int
    received: int
    networks: int | None  # from which it logged in lately; None: not known without a daemon
    usual: int  # recipients, on average of the earlier days with mail
    highest: int  # recipients in one earlier day
    above: list[str] = []  # limits that it is above now


class AccountsResult(_Result, frozen=True, tag="accounts"):
    """Senders of today, at most `Accounts.max` of `total`."""

    rows: list[AccountRow]
    total: int
    enabled: bool = True  # whether senders are counted


class Found(Struct, frozen=True):
    """A subject that a text may mean."""

    subject: str
    kind: Literal["account", "uid", "inside", "mailbox", "domain", "client", "network"]
    name: str = ""  # the host name of a client
    active: Action | None = None
    known: str = ""  # what it did, for people


class FindResult(_Result, frozen=True, tag="find"):
    """Who is meant, at most `Find.max`."""

    rows: list[Found]


class ChangeResult(_Result, frozen=True, tag="change"):
    """What a command changed."""

    changed: list[Snapshot]  # now active; for unban, allow: those that no longer are
    confirmed: bool  # the kernel was asked, and it is so
    message: str  # one sentence for people
    would: bool = False  # observing: nothing changed in the kernel


class AllowedResult(_Result, frozen=True, tag="allowed"):
    """The allowlist."""

    rows: list[AllowRow]


class ImportResult(_Result, frozen=True, tag="import"):
    """What became of a list."""

    done: int  # entries
    refused: list[Refusal]
    confirmed: bool  # the kernel was asked, and it is so
    would: bool = False  # observing: nothing changed in the kernel
    outcomes: dict[str, int] = {}  # of a list's entries: banned, throttled, known


class AuditResult(_Result, frozen=True, tag="audit"):
    """What operators changed, the latest first."""

    rows: list[Change]


class FleetPeer(Struct, frozen=True):
    """A host of the fleet."""

    name: str
    version: str  # of its program; "" until its first heartbeat
    heard: float  # seconds since its latest entry, or since the daemon was started
    entries: int  # active here that came from it
    braked: bool  # its bans are throttles
    outcomes: dict[str, int]  # what became of its rows since the start
    distrusted: bool = False
    behind: float = 0.0  # seconds of its stream that are not processed


class FleetResult(_Result, frozen=True, tag="fleet"):
    """The fleet."""

    site: str
    name: str  # of this host
    connected: bool
    error: str  # why not, or why nothing is published; "" where all is well
    published: dict[str, int]  # rows since the start, by kind
    peers: list[FleetPeer]
    hint: str = ""  # what to do about the error
    unpublished: int = 0  # decisions that are not looked at yet
    delay: Histogram = field(default_factory=Histogram)  # published there -> processed here
    server: list[Finding] = []  # what is wrong with the Redis server


Result = (
    Done
    | StatusResult
    | TopResult
    | ListResult
    | ExplainResult
    | AccountsResult
    | FindResult
    | ChangeResult
    | AllowedResult
    | ImportResult
    | UnbanManyResult
    | AuditResult
    | FleetResult
)

#: Results that say whether the daemon observes.
OBSERVED = StatusResult | ListResult | ExplainResult | ChangeResult | ImportResult | UnbanManyResult
