"""Limits as the operator writes them: what is counted, of whom, and the two thresholds. Pure.

Part of the settings, apart from the other sections because counting needs nothing else of them:
defaults, bounds and descriptions stand here and nowhere else.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from throttled.duration import Duration, duration
from throttled.model import Rate
from throttled.subjects import Of

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
