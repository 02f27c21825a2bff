"""What the operator wants: the sections of the configuration that deciding needs. Pure.

`config/schema.py` composes these into the whole file; `decide/` reads them. Every field has its
default, its bounds and its description here and nowhere else: the documentation and the default
file are written from them.
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from throttled.model import Rate
from throttled.subjects import Of

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class Duration(float):
    """Seconds, written as `90s`, `10m`, `1.5h`, `1d`, `2w` or a sum of these: `1h30m`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read what an operator writes.

        Raises:
            ValueError: the text is not a duration, or is zero or longer than ten years.
        """
        seconds = 0.0
        end = 0
        for match in _DURATION.finditer(text):
            if match.start() != end:
                break
            seconds += float(match[1]) * _UNITS[match[2]]
            end = match.end()
        if end == len(text) and seconds > 3650 * 86400:
            raise ValueError(f"longer than ten years: {text!r} (at most 3650d)")
        if end != len(text) or not seconds:
            raise ValueError(f"not a duration: {text!r} (write 90s, 10m, 1h30m, 4h, 1d, 2w)")
        return cls(seconds)

    def __str__(self) -> str:
        """Write the shortest exact form, largest unit first."""
        rest = round(float(self))
        parts = []
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


def duration(text: str) -> Duration:
    """Shorthand for defaults."""
    return Duration.parse(text)


Count = Literal[
    "connections",
    "errors",
    "callouts",
    "auth_failures",
    "auth_users",
    "messages",
    "recipients",
]
#: What accounts and other senders do, as Postfix's queue shows it.
Used = Literal["messages", "recipients", "bytes", "bounces", "deferrals", "networks", "received"]
AnyCount = Literal[Count, Used]
LimitMode = Literal["report", "throttle", "enforce"]
#: The highest threshold, and that of bytes.
MOST, MOST_BYTES = 1_000_000, 8_000_000_000
Threshold = Annotated[int, Meta(ge=1, le=MOST)]
LimitThreshold = Annotated[int, Meta(ge=1, le=MOST_BYTES)]
Share = Annotated[
    str,
    Meta(
        pattern=r"\A[1-9][0-9]?(?:\.[0-9])?%\Z",
        extra={"form": 'a share from "1%" to "99.9%"'},
    ),
]
SubjectName = Annotated[
    str, Meta(min_length=1, max_length=400, extra={"form": "a subject, as account:alice"})
]
Weight = Annotated[int, Meta(ge=0, le=100)]


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True):
    """Other thresholds of a limit in one scope."""

    soft: Annotated[Threshold | None, Meta(description="throttle above this many")] = None
    hard: Annotated[Threshold | None, Meta(description="ban above this many")] = None


class Override(Struct, frozen=True, forbid_unknown_fields=True):
    """Other thresholds of a limit for one subject."""

    soft: Annotated[LimitThreshold | None, Meta(description="instead of the limit's soft")] = None
    hard: Annotated[LimitThreshold | None, Meta(description="instead of the limit's hard")] = None
    enabled: Annotated[bool, Meta(description="false: the limit does not apply")] = True


PerUnit = Annotated[int, Meta(ge=1, le=100_000, description="new connections allowed per `per`")]
Burst = Annotated[int, Meta(ge=1, le=100_000, description="allowed at once")]


BanTimes = Annotated[tuple[Duration, ...], Meta(min_length=1, max_length=20)]


class ThrottleRate(Struct, frozen=True, forbid_unknown_fields=True):
    """A throttle's own rate, instead of that of [throttle]."""

    rate: PerUnit
    per: Annotated[Duration, Meta(description="the time for `rate`: 1s, 1m, 1h or 1d")]
    burst: Burst
    time: Annotated[
        Duration | None,
        Meta(description="how long it lasts (default: as in [throttle] or [network])"),
    ] = None

    def as_rate(self) -> Rate:
        """Return what a decision and the kernel need of it."""
        return Rate(self.rate, float(self.per), self.burst)


class Limit(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """One table of counters with two thresholds, as in Postfix's own soft and hard limits."""

    count: Annotated[AnyCount, Meta(description="what is counted")]
    within: Annotated[Duration, Meta(description="the window that counts")]
    of: Annotated[Of, Meta(description="the subjects that are counted")] = "client"
    soft: Annotated[
        LimitThreshold | None,
        Meta(description='throttle above this many; of others than "client": report'),
    ] = None
    hard: Annotated[LimitThreshold | None, Meta(description="ban above this many")] = None
    share: Annotated[
        Share | None,
        Meta(description='and above this share of the recipients in the window, as "10%"'),
    ] = None
    usual: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="and above this multiple of the subject's own highest day"),
    ] = None
    mode: Annotated[
        LimitMode | None,
        Meta(
            description=(
                '"report": a line in the journal and nothing else; "throttle": no bans; "enforce": '
                'both thresholds act. Unless given: "report", of clients the mode of the daemon'
            )
        ),
    ] = None
    mx: Annotated[Thresholds | None, Meta(description="other thresholds on port 25")] = None
    submission: Annotated[
        Thresholds | None, Meta(description="other thresholds on submission ports")
    ] = None
    throttle: Annotated[
        ThrottleRate | None, Meta(description="a throttle rate for clients above `soft`")
    ] = None
    ban_times: Annotated[
        BanTimes | None, Meta(description="replaces [ban] times for bans of this limit")
    ] = None
    factor: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="replaces [good] factor and memory for this limit"),
    ] = None
    for_: Annotated[
        dict[SubjectName, Override],
        Meta(
            max_length=1000,
            description=(
                'other thresholds for named subjects: [limits.NAME.for."account:alice"]; of '
                "clients for addresses and networks, of which the narrowest counts"
            ),
        ),
    ] = field(default_factory=dict)
    enabled: Annotated[bool, Meta(description="false disables this limit")] = True

    @property
    def incoming(self) -> bool:
        """Whether it counts mail that arrives for mailboxes and domains here."""
        return self.of == "mailbox" or self.count == "received"

    @property
    def acts(self) -> bool:
        """Whether it throttles or bans senders or recipients, and does not only report them."""
        return self.enabled and self.of != "client" and self.mode in ("throttle", "enforce")


def default_limits() -> dict[str, Limit]:
    """Return the limits that are active where the file says nothing."""
    return {
        "connections": Limit(
            count="connections",
            within=duration("1m"),
            soft=60,
            submission=Thresholds(soft=120),
        ),
        "errors": Limit(count="errors", within=duration("10m"), soft=20, hard=50),
        "errors-day": Limit(
            count="errors",
            within=duration("1d"),
            soft=500,
            throttle=ThrottleRate(2, duration("1h"), 1, duration("4h")),
            factor=200,
        ),
        "callouts": Limit(
            count="callouts",
            within=duration("10m"),
            soft=60,
            hard=600,
            throttle=ThrottleRate(30, duration("1h"), 5, duration("1h")),
        ),
        "auth": Limit(count="auth_failures", within=duration("10m"), soft=10, hard=100),
        "auth-users": Limit(count="auth_users", within=duration("10m"), hard=20),
        "auth-slow": Limit(count="auth_users", within=duration("1d"), soft=5, hard=10),
        "auth-day": Limit(
            count="auth_failures",
            within=duration("1d"),
            soft=100,
            throttle=ThrottleRate(2, duration("1h"), 1, duration("4h")),
        ),
        "account-bounces": Limit(
            of="account", count="bounces", within=duration("1h"), soft=10, share="10%"
        ),
        "account-volume": Limit(
            of="account", count="recipients", within=duration("1d"), soft=500, usual=10
        ),
        "account-networks": Limit(of="account", count="networks", within=duration("1h"), soft=10),
    }


class Guessing(Struct, frozen=True, forbid_unknown_fields=True):
    """When an account counts as under attack, and what becomes of clients that fail on it."""

    enabled: Annotated[bool, Meta(description="false disables this; so does [accounts]")] = True
    tries: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="an account with more failed logins within `within` is under attack",
        ),
    ] = 30
    tries_each: Annotated[
        int,
        Meta(ge=1, le=10_000, description="maximum that counts of one address (IPv6: of a /64)"),
    ] = 3
    within: Annotated[Duration, Meta(description="the window that counts")] = duration("1d")
    accounts: Annotated[
        int,
        Meta(
            ge=2,
            le=100,
            description=(
                "ban a client that failed on this many accounts under attack; on fewer: throttle it"
            ),
        ),
    ] = 2
    mode: Annotated[
        LimitMode | None,
        Meta(description='"report", "throttle" or "enforce"; unless given the mode of the daemon'),
    ] = None
    throttle: Annotated[ThrottleRate, Meta(description="the throttle rate for such clients")] = (
        field(default_factory=lambda: ThrottleRate(1, duration("1d"), 1, duration("4h")))
    )


OverloadMode = Literal["enforce", "report", "off"]


class Overload(Struct, frozen=True, forbid_unknown_fields=True):
    """How many connections clients without good evidence may have open at a time."""

    mx: Annotated[
        OverloadMode,
        Meta(
            description=(
                'on port 25: "enforce": further ones are delayed; "report": what would be delayed '
                'is reported; "off": nothing is counted'
            )
        ),
    ] = "enforce"
    submission: Annotated[OverloadMode, Meta(description="the same on submission ports")] = "report"
    cap: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=100_000)],
        Meta(description='maximum open at a time; "auto": Postfix\'s process limit less `reserve`'),
    ] = "auto"
    reserve: Annotated[
        Share, Meta(description="share of the process limit that is kept for known good clients")
    ] = "20%"
    turn: Annotated[
        Duration,
        Meta(description="maximum time in which a network (/24, /64) is admitted once"),
    ] = duration("5m")
    idle: Annotated[
        Duration,
        Meta(
            description=(
                "while connections are delayed: end sessions that keep Postfix waiting this long, "
                "or 0.3 times as long and say nothing"
            )
        ),
    ] = duration("10s")

    def mode(self, scope: str) -> OverloadMode:
        """Return the mode of a scope."""
        return self.mx if scope == "mx" else self.submission


#: What decisions for [guessing] name as their limit.
GUESSING = "guessing"


class Points(Struct, frozen=True, forbid_unknown_fields=True):
    """What each kind of misbehaviour adds to the count `errors`."""

    non_smtp_command: Annotated[Weight, Meta(description="HTTP or garbage for SMTP")] = 5
    pregreet: Annotated[Weight, Meta(description="spoke before the greeting")] = 5
    pipelining: Annotated[Weight, Meta(description="did not wait for replies")] = 5
    bare_newline: Annotated[Weight, Meta(description="bare newline, as in SMTP smuggling")] = 5
    too_many_errors: Annotated[
        Weight, Meta(description="Postfix disconnected after errors most of which counted")
    ] = 5
    relay: Annotated[Weight, Meta(description="relay access denied")] = 3
    unknown_user: Annotated[Weight, Meta(description="recipient does not exist")] = 1
    syntax: Annotated[Weight, Meta(description="impossible address, HELO or command")] = 1
    dnsbl: Annotated[Weight, Meta(description="refused because a DNS list names it")] = 1
    access: Annotated[
        Weight, Meta(description="refused by an access table without its own text")
    ] = 1
    command_limit: Annotated[Weight, Meta(description="postscreen's command limits")] = 1
    rate_limit: Annotated[Weight, Meta(description="Postfix's own rate limits, IPv4 only")] = 1
    empty_session: Annotated[
        Weight, Meta(description="a session in which nothing was sent: mostly a health check")
    ] = 0
    per_session: Annotated[
        Weight,
        Meta(description="maximum per session and minute; a tenth of what is above counts"),
    ] = 10


class Throttle(Struct, frozen=True, forbid_unknown_fields=True):
    """The throttle: how often a throttled subject may open a connection."""

    rate: PerUnit = 10
    per: Annotated[Duration, Meta(description="the time for `rate`: 1s, 1m or 1h")] = duration("1m")
    burst: Burst = 10
    time: Annotated[Duration, Meta(description="how long a throttle lasts")] = duration("10m")


class Ban(Struct, frozen=True, forbid_unknown_fields=True):
    """The ladder of bans."""

    times: Annotated[
        tuple[Duration, ...],
        Meta(min_length=1, max_length=20, description="length of the first ban, the second, …"),
    ] = field(default_factory=lambda: tuple(duration(t) for t in ("10m", "1h", "4h", "12h", "24h")))
    forget: Annotated[
        Duration, Meta(description="one step of the ladder is removed after this time")
    ] = duration("10d")


class Good(Struct, frozen=True, forbid_unknown_fields=True):
    """What good evidence excuses: mail delivered, for connections and errors; logins, for AUTH."""

    forgives: Annotated[
        int,
        Meta(ge=0, le=100, description="what one good event excuses from a throttle, in a window"),
    ] = 1
    forgives_ban: Annotated[
        int, Meta(ge=0, le=100, description="what one good event excuses from a ban, in a window")
    ] = 3
    factor: Annotated[
        int, Meta(ge=1, le=1000, description="maximum factor by which a threshold is raised")
    ] = 20
    memory: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description=(
                "evidence of 30 days: a throttle instead of a ban, none for connections, up to "
                "this multiple"
            ),
        ),
    ] = 5


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """When a whole /24 or /64 is acted on: for what its addresses did, or how many were banned."""

    multiple: Annotated[
        int,
        Meta(ge=1, le=1000, description="its thresholds are this multiple of those of each limit"),
    ] = 5
    soft: Annotated[
        Threshold, Meta(description="throttle it if this many addresses are banned in a day")
    ] = 5
    hard: Annotated[
        Threshold, Meta(description="ban it if this many addresses are banned in a day")
    ] = 10
    time: Annotated[Duration, Meta(description="how long a network is throttled or banned")] = (
        duration("1h")
    )
    throttle: Annotated[
        ThrottleRate | None, Meta(description="a rate of its own for a throttled network")
    ] = field(default_factory=lambda: ThrottleRate(10, duration("1h"), 1))


class Protect(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is never throttled or banned."""

    networks: Annotated[
        tuple[str, ...], Meta(description="addresses and networks, for example 198.51.100.0/24")
    ] = ()
    names: Annotated[
        tuple[str, ...],
        Meta(description="host names (mx.example.com) and suffixes (.example.com)"),
    ] = ()
    mynetworks: Annotated[bool, Meta(description="Postfix's mynetworks too")] = True
    brake: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="if more known good senders than this would be banned in a minute: no bans",
        ),
    ] = 5


class Accounts(Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted of senders: see [limits.NAME] of."""

    enabled: Annotated[
        bool,
        Meta(
            description=(
                "false: nothing of accounts, users, inside hosts, mailboxes or domains is counted, "
                "and what was stored of them is deleted"
            )
        ),
    ] = True
    over: Annotated[
        Literal["hold", "defer"],
        Meta(
            description=(
                "if Postfix asks the daemon: what happens to a message of a throttled account or "
                'inside host that may not wait; "hold": it is put into the hold queue; "defer": '
                "the client gets 450 and has to try again"
            )
        ),
    ] = "hold"
    ban: Annotated[
        Literal["hold", "defer"],
        Meta(description="what happens to a message of a banned account or inside host"),
    ] = "defer"
    hold: Annotated[
        Duration,
        Meta(description="… after so long on hold mail is released, at the subject's rate"),
    ] = Duration(3600)
    waiting: Annotated[
        int,
        Meta(ge=1, le=100, description="… how many messages of one may wait at a time"),
    ] = 4
    visible: Annotated[
        Literal["root", "group"],
        Meta(
            description=(
                'who may see them in accounts, find, explain and list: "root" alone, or "group": '
                "also the members of [control] group"
            )
        ),
    ] = "root"


#: What a peer's ban becomes here.
Believe = Literal["ban", "throttle", "report"]


class Policy(Struct, frozen=True):
    """All that deciding needs."""

    mode: Literal["observe", "throttle", "enforce"] = "enforce"
    max_clients: int = 200_000
    limits: dict[str, Limit] = field(default_factory=default_limits)
    points: Points = Points()
    throttle: Throttle = Throttle()
    ban: Ban = field(default_factory=Ban)
    good: Good = Good()
    network: Network = field(default_factory=Network)
    protect: Protect = Protect()
    accounts: Accounts = Accounts()
    guessing: Guessing = field(default_factory=Guessing)

    def mode_of(self, name: str) -> LimitMode:
        """Return the mode of a limit: its own, but no more than the daemon's."""
        limit = self.limits.get(name)
        if name == GUESSING:
            own: LimitMode = self.guessing.mode or "enforce"
        elif limit is None:
            own = "enforce"
        else:
            own = limit.mode or ("enforce" if limit.of == "client" else "report")
        return "throttle" if own == "enforce" and self.mode == "throttle" else own

    def guesses(self) -> Guessing:
        """Return [guessing], disabled where nothing of accounts is to be counted."""
        enabled = self.guessing.enabled and self.accounts.enabled
        return replace(self.guessing, enabled=enabled)

    def acts(self, *, incoming: bool) -> bool:
        """Return whether a limit of senders acts, or, `incoming`, of who receives."""
        return any(one.acts and one.incoming == incoming for one in self.limits.values())

    def of_senders(self, name: str) -> bool:
        """Return whether a limit counts what senders do (accounts …), not what clients do."""
        limit = self.limits.get(name)
        return limit is not None and limit.of != "client"
