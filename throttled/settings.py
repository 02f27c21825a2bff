"""What the operator wants: the sections of the configuration that deciding needs. Pure.

`config/schema.py` composes these into the whole file; `decide/` reads them. Every field has its
default, its bounds and its description here and nowhere else: the documentation and the default
file are written from them.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from throttled.duration import Duration, duration
from throttled.limits import (
    BanTimes,
    Burst,
    Limit,
    LimitMode,
    PerUnit,
    Share,
    Threshold,
    ThrottleRate,
    default_limits,
)

Weight = Annotated[int, Meta(ge=0, le=100)]


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

    times: Annotated[BanTimes, Meta(description="length of the first ban, the second, …")] = field(
        default_factory=lambda: tuple(duration(t) for t in ("10m", "1h", "4h", "12h", "24h"))
    )
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
