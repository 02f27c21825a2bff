"""What operators ask. Pure.

`wire` has the form of requests on the control socket, `canonical` that of what an operator wrote.

Limits: a request has at most `MAX_REQUEST` bytes, a `list` answers at most `MAX_ROWS` rows and says
from where to ask on.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from throttled.control.bulk import UnbanMany
from throttled.control.fields import ListName, Op, Part, Seconds, Subject, Text
from throttled.model import Action, Scope
from throttled.subjects import Of

MAX_REQUEST = 64 * 1024
#: The daemon encodes a reply in one piece: this number of rows takes about 10 ms.
MAX_ROWS = 10_000
#: Entries of one `Import`: a longer list is several requests.
MAX_ENTRIES = 1_000
#: Addresses of one `Resolve`.
MAX_ADDRESSES = 64

AccountSort = Literal[
    "recipients",
    "messages",
    "bounces",
    "deferrals",
    "bytes",
    "received",
    "networks",
    "usual",
    "highest",
]

Sort = Literal["subject", "since", "until", "packets"]
SORTS: tuple[Sort, ...] = ("subject", "since", "until", "packets")


class Ping(Op, frozen=True, tag="ping"):
    """Is anybody there? Answered with `Done`."""


class Prove(Op, frozen=True, tag="prove"):
    """Does the firewall do what it is reported? Answered with `Done`, once it was tried."""


class Reach(Op, frozen=True, tag="reach"):
    """Can the daemon connect to the webhook of notifications? Answered with `Done`."""


class NotifyTest(Op, frozen=True, tag="notify_test"):
    """Send a test message to each receiver of notifications. Answered with `Done`."""


class Asked(Op, frozen=True, tag="asked"):
    """Did Postfix ask about a message or recipient of a session of this host? "asked": yes."""

    client: Text  # address of the session's client
    port: Annotated[int, Meta(ge=1, le=65535)]  # of the client
    about: Literal["data", "recipient"] = "data"


class Status(Op, frozen=True, tag="status"):
    """How is the daemon? Answered with `StatusResult`."""


class Top(Op, frozen=True, tag="top"):
    """What is continuing? Answered with `TopResult`."""

    max: Annotated[int, Meta(ge=1, le=100)] = 50


class List(Op, frozen=True, tag="list"):
    """What is active? Answered with `ListResult`. None = no filter."""

    scope: Scope | None = None
    action: Action | None = None
    within: Subject | None = None  # this subject and, for a network, everything inside it
    limit: Text | None = None
    sort: Sort = "since"
    max: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = 1000
    after: Annotated[tuple[int | float | str, ...], Meta(max_length=2)] = ()  # a `ListResult.next`
    proxied: bool = False  # instead, what would be active against clients behind a proxy
    peer: Text | None = None  # only what came from this host of the fleet
    seconds: Seconds | None = None  # only what was decided within these
    name: ListName = ""  # only what came from this list
    new: bool = False  # the list may be new: its name is not refused


class Explain(Op, frozen=True, tag="explain"):
    """What is known of a subject? Answered with `ExplainResult`."""

    subject: Subject


class Accounts(Op, frozen=True, tag="accounts"):
    """What did senders do today? Answered with `AccountsResult`."""

    text: Text = ""  # only those whose name contains it
    of: Of | None = None  # all
    sort: AccountSort = "recipients"
    max: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = 100


class Find(Op, frozen=True, tag="find"):
    """Who is meant by a piece of a name or an address? Answered with `FindResult`."""

    text: Annotated[str, Meta(min_length=2, max_length=300)]
    max: Annotated[int, Meta(ge=1, le=1000)] = 100


class _Punish(Op, frozen=True):
    subject: Subject
    scope: Scope | None = None  # both
    seconds: Seconds | None = None  # the configuration's first ban, or throttle
    why: Text = ""
    force: bool = False  # also a network wider than the floor


class Ban(_Punish, frozen=True, tag="ban"):
    """Ban a subject. Answered with `ChangeResult`, once the kernel confirmed."""


class Throttle(_Punish, frozen=True, tag="throttle"):
    """Throttle a subject. Answered with `ChangeResult`, once the kernel confirmed."""

    rate: Annotated[int, Meta(ge=1, le=100_000)] | None = None  # None = that of [throttle]
    per: Literal[1, 60, 3600, 86400] = 60  # seconds, for `rate`


class Unban(Op, frozen=True, tag="unban"):
    """Remove throttle and ban, reset the counts. Answered with `ChangeResult`."""

    subject: Subject
    scope: Scope | None = None  # both
    exempt: Annotated[float, Meta(ge=0, le=3650 * 86400)] = 0.0  # seconds


class UnbanAll(Op, frozen=True, tag="unban-all"):
    """Lift every throttle and ban. Answered with `ChangeResult`, whose `changed` is empty."""

    scope: Scope | None = None  # both


class Allow(Op, frozen=True, tag="allow"):
    """Never act on this address, network or host-name suffix. Answered with `ChangeResult`."""

    what: Subject
    seconds: Seconds | None = None  # for ever
    note: Text = ""
    force: bool = False  # also a network wider than the floor


class Resolve(Op, frozen=True, tag="resolve"):
    """Never act on a host's addresses, resolved by who asks. Answered with `ChangeResult`."""

    what: Subject  # the host name
    addresses: Annotated[list[Subject], Meta(min_length=1, max_length=MAX_ADDRESSES)]
    seconds: Seconds | None = None  # no end
    note: Text = ""
    refresh: bool = False  # `seconds` and `note` stay; the name must be on the list


class Disallow(Op, frozen=True, tag="disallow"):
    """Take an `Allow` back. Answered with `ChangeResult`."""

    what: Subject


class Allowed(Op, frozen=True, tag="allowed"):
    """The allowlist. Answered with `AllowedResult`."""


class Entered(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of a list."""

    subject: Subject  # with `allow` also a host-name suffix
    action: Literal["ban", "throttle", "allow"]
    scope: Scope | None = None  # both; `allow` knows none
    seconds: Seconds | None = None  # as without a list
    why: Text = ""


class Import(Op, frozen=True, tag="import"):
    """Ban, throttle and allow what is on a list. Answered with `ImportResult`."""

    entries: Annotated[list[Entered], Meta(max_length=MAX_ENTRIES)]
    force: bool = False  # also networks wider than the floor
    name: ListName = ""  # of the list, whose entries can be replaced and removed as a whole
    remove: Annotated[list[tuple[Subject, Scope]], Meta(max_length=MAX_ENTRIES)] = field(
        default_factory=list
    )  # entries that are no longer on the list
    part: Part | None = None


class Audit(Op, frozen=True, tag="audit"):
    """What did operators change? Answered with `AuditResult`."""

    subject: Subject | None = None  # of all; else exactly this one, or a host name
    seconds: Seconds | None = None  # how far back; as far as is known
    max: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = 1000


class AddHost(Op, frozen=True, tag="add-host"):
    """Count a host's lines: they are this host's. Answered with `Done`; `throttled check` asks."""

    name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._-]+\Z")]


class Reload(Op, frozen=True, tag="reload"):
    """Read the configuration again, as on SIGHUP. Answered with `Done`."""


class FleetStatus(Op, frozen=True, tag="fleet"):
    """How is the fleet? Answered with `FleetResult`."""


class FleetRemove(Op, frozen=True, tag="fleet-remove"):
    """Remove all that came from a host of the fleet. Answered with `Done`."""

    subject: Text  # the host's name
    distrust: bool = False  # and listen to it no more


class FleetTrust(Op, frozen=True, tag="fleet-trust"):
    """Listen to a host of the fleet again, and end its brake. Answered with `Done`."""

    subject: Text  # the host's name


class Purge(Op, frozen=True, tag="purge"):
    """Remove everything from the kernel. Never sent: for the record of what was done offline."""


class PostfixChange(Op, frozen=True, tag="postfix"):
    """Change a main.cf. Never sent: for the record of what was done offline."""

    what: str  # the configuration directory
    settings: dict[str, str | None]  # new values; None: removed
    undo: bool = False


class MailChange(Op, frozen=True, tag="mail"):
    """Change queued mail. Never sent: for the record of what was done offline."""

    what: str  # hold, release, delete
    subject: str
    ids: list[str] = field(default_factory=list)  # queue ids, where these were named


#: Requests that change nothing.
READS = (
    Ping
    | Prove
    | Asked
    | Reach
    | NotifyTest
    | Status
    | Top
    | List
    | Explain
    | Accounts
    | Find
    | Allowed
    | Audit
    | FleetStatus
)

Request = (
    READS
    | Ban
    | Throttle
    | Unban
    | UnbanAll
    | UnbanMany
    | Allow
    | Resolve
    | Disallow
    | Import
    | AddHost
    | Reload
    | FleetRemove
    | FleetTrust
)
