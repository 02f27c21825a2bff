"""What is known of one of Postfix's parameters. Pure."""

from typing import Literal

from msgspec import Struct

from throttled.maincf.values import INT, Kind

#: What honest senders did, as far as logs and the store know it (`throttled.maincf.evidence`).
Measure = Literal[
    "",
    "errors",
    "recipients",
    "size",
    "connections",
    "connection rate",
    "message rate",
    "recipient rate",
    "newtls rate",
    "auth rate",
]


class Parameter(Struct, frozen=True):
    """One parameter of main.cf."""

    name: str
    kind: Kind
    default: str
    since: str = ""  # "" = always
    low: int = 0
    high: int = INT
    words: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    measure: Measure = ""
    #: 0 means no limit.
    off: bool = False
    #: Why a value outside of `low` and `high` is refused, where Postfix would take it.
    why: str = ""
    #: `throttled postfix` shows it; else only where it is set.
    shown: bool = True
