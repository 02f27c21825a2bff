"""What must hold between the keys of a configuration, beyond the type of each. Pure.

Owns no state. Each check yields errors: (key, what is wrong).
"""

import re
from collections.abc import Container, Iterator
from typing import get_args

from throttled import address, subjects
from throttled.config.describe import shown
from throttled.config.places import Key
from throttled.config.schema import Config, FirewallPorts
from throttled.duration import Duration, duration
from throttled.limits import MOST, Count, Limit, Override, Thresholds, ThrottleRate

_SUFFIX = re.compile(r"\.?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")

Invalid = tuple[Key, str]

#: ipset's longest timeout is 2147483 s (ipset(8)), just under 25 days; all backends keep to it.
_LONGEST = duration("24d")
_SHORTEST_WINDOW = duration("1s")
_LONGEST_TURN = duration("5m")
_RATE_UNITS = (duration("1s"), duration("1m"), duration("1h"))
_OWN_UNITS = (*_RATE_UNITS, duration("1d"))
#: Each rate of its own is a set and a rule in the kernel for each prefix length that it applies to.
_RATES = 16
_DAY = 86400
_SENDS = ("messages", "recipients", "bytes", "bounces", "deferrals")
_COUNTS: dict[subjects.Of, tuple[str, ...]] = {
    "client": get_args(Count),
    "account": (*_SENDS, "networks"),
    "uid": _SENDS,
    "inside": (*_SENDS, "connections"),
    "domain": (*_SENDS, "received"),
    "mailbox": ("messages",),
}
#: Decisions that no limit made carry these in the place of a limit's name.
_RESERVED = ("network", "ladder", "operator", "guessing")


def errors(config: Config, written: Container[Key] = ()) -> Iterator[Invalid]:
    """Yield everything that does not go together.

    Args:
        config: the whole configuration.
        written: the keys that the operator wrote; all others have their defaults.
    """
    for name, limit in config.limits.items():
        yield from _limit(name, limit, written)
    yield from _times(config)
    yield from _rates(config)
    yield from _order(
        (("network", "soft"), config.network.soft),
        (("network", "hard"), config.network.hard),
        written,
    )
    yield from _subjects(config)
    yield from _firewall(config)
    log = config.log
    if log.files == () and log.journal is False and not log.containers:
        yield ("log", "files"), "nothing to read: no files, no containers, and journal is false"
    listen = config.metrics.listen
    _, colon, port = listen.rpartition(":")
    if colon and not listen.startswith("/") and not 1 <= int(port) <= 65535:
        yield ("metrics", "listen"), "the port must be from 1 to 65535"


def _order(
    soft: tuple[Key, int | None], hard: tuple[Key, int | None], written: Container[Key]
) -> Iterator[Invalid]:
    """Yield thresholds that are in the wrong order, at the one that the operator wrote.

    Args:
        soft: key and value.
        hard: key and value.
        written: see `errors`.
    """
    (soft_key, low), (hard_key, high) = soft, hard
    if not low or not high or low < high:
        return
    if hard_key in written and soft_key not in written:
        yield hard_key, f"must be above soft, which is {low} by default: set soft too, below {high}"
    elif soft_key in written and hard_key not in written:
        yield soft_key, f"must be below hard, which is {high} by default: set hard too, above {low}"
    else:
        yield max(soft_key, hard_key, key=len), f"soft ({low}) must be below hard ({high})"


def _limit(name: str, limit: Limit, written: Container[Key]) -> Iterator[Invalid]:
    key = ("limits", name)
    if name in _RESERVED:
        yield key, f"{name} is a word of its own; give the limit another name"
    if not _SHORTEST_WINDOW <= limit.within <= _LONGEST:
        yield (*key, "within"), f"must be from {_SHORTEST_WINDOW} to {_LONGEST}"
    for scope, other in (("mx", limit.mx), ("submission", limit.submission), ("", limit)):
        if other is None:
            continue
        yield from _thresholds(key, limit, (*key, scope) if scope else key, other, written)
    yield from _overrides(key, limit, written)
    yield from _senders(key, limit)
    if not any(
        given and (given.soft or given.hard) for given in (limit, limit.mx, limit.submission)
    ):
        yield key, "a limit needs soft, hard or both"


def _thresholds(
    key: Key, limit: Limit, at: Key, own: Thresholds | Override | Limit, written: Container[Key]
) -> Iterator[Invalid]:
    """Yield thresholds in the wrong order of a scope or subject, which may have its own."""
    soft = (*(at if own.soft else key), "soft"), own.soft or limit.soft
    hard = (*(at if own.hard else key), "hard"), own.hard or limit.hard
    yield from _order(soft, hard, written)


def _senders(key: Key, limit: Limit) -> Iterator[Invalid]:
    """Yield what does not go with whose a limit is, and what it counts."""
    counts = _COUNTS[limit.of]
    if limit.count not in counts:
        yield (*key, "count"), f'of = "{limit.of}" counts {" or ".join(counts)}'
    for name in ("soft", "hard"):
        if limit.count != "bytes" and (getattr(limit, name) or 0) > MOST:
            yield (*key, name), f"must be at most {MOST}"
    outside = limit.of == "client"
    given = {
        "mx": limit.mx,
        "submission": limit.submission,
        "ban_times": None if limit.mode == "enforce" else limit.ban_times,
        "throttle": None if limit.mode in ("throttle", "enforce") else limit.throttle,
        "factor": limit.factor,
    }
    only = {"share": limit.share, "usual": limit.usual}
    for name, value in (only if outside else given).items():
        if value:
            which = "other limits than those" if outside else "limits"
            yield (*key, name), f'only for {which} of = "client"'
    if limit.share and limit.count not in ("bounces", "deferrals"):
        yield (*key, "share"), "only with bounces or deferrals: it is a share of the recipients"
    if limit.usual and (limit.count != "recipients" or float(limit.within) != _DAY):
        yield (*key, "usual"), 'only with count = "recipients" and within = "1d"'
    if limit.hard and not outside and limit.mode != "enforce":
        yield (*key, "hard"), 'only for limits of = "client", or with mode = "enforce"'


def _overrides(key: Key, limit: Limit, written: Container[Key]) -> Iterator[Invalid]:
    """Yield entries of `for` that are for another kind of subject, or crosswise."""
    outside = limit.of == "client"
    for subject, own in limit.for_.items():
        at = (*key, "for", subject)
        if subjects.of(subject) != ("inside" if outside else limit.of):
            of = "address or network" if outside else f'subject of = "{limit.of}"'
            yield at, f"is no {of}"
        yield from _thresholds(key, limit, at, own, written)


def _times(config: Config) -> Iterator[Invalid]:
    ladders: dict[Key, tuple[Duration, ...]] = {
        ("ban", "times"): config.ban.times,
        **{("limits", n, "ban_times"): one.ban_times or () for n, one in config.limits.items()},
    }
    for key, times in ladders.items():
        if list(times) != sorted(times):
            yield key, "each ban must be at least as long as the one before"
    lasting: dict[Key, Duration] = {
        **{key: max(times) for key, times in ladders.items() if times},
        ("throttle", "time"): config.throttle.time,
        ("network", "time"): config.network.time,
        ("guessing", "within"): config.guessing.within,
        ("overload", "idle"): config.overload.idle,
    }
    for key, time in lasting.items():
        if not _SHORTEST_WINDOW <= time <= _LONGEST:
            yield key, f"must be from {_SHORTEST_WINDOW} to {_LONGEST}"
    # A sender that was deferred by greylisting comes again after 5 to 15 minutes.
    if not _SHORTEST_WINDOW <= config.overload.turn <= _LONGEST_TURN:
        yield ("overload", "turn"), f"must be from {_SHORTEST_WINDOW} to {_LONGEST_TURN}"
    if config.throttle.per not in _RATE_UNITS:
        yield ("throttle", "per"), 'must be "1s", "1m" or "1h"'


def _rates(config: Config) -> Iterator[Invalid]:
    """Yield rates of their own that no kernel interface keeps exactly, or that are too many."""
    own: dict[Key, ThrottleRate | None] = {
        ("network", "throttle"): config.network.throttle,
        ("guessing", "throttle"): config.guessing.throttle,
        **{("limits", name, "throttle"): limit.throttle for name, limit in config.limits.items()},
    }
    given = {key: throttle for key, throttle in own.items() if throttle is not None}
    for key, throttle in given.items():
        most = int(_DAY * throttle.rate / throttle.per)
        if throttle.per not in _OWN_UNITS:
            yield (*key, "per"), 'must be "1s", "1m", "1h" or "1d"'
        elif throttle.burst > most:
            # xt_hashlimit counts no more than a day in which an allowance becomes whole again.
            yield (*key, "burst"), f"must be at most what the rate allows in a day ({most})"
    if len(set(given.values())) > _RATES:
        yield list(given)[-1], f"there are more than {_RATES} different rates of their own"


def _subjects(config: Config) -> Iterator[Invalid]:
    for text in config.protect.networks:
        try:
            address.parse(text)
        except ValueError:
            yield ("protect", "networks"), f"{shown(text)} is no address or network"
    for name in config.protect.names:
        if not _SUFFIX.fullmatch(name):
            yield ("protect", "names"), f"{shown(name)} is no host name or .suffix"


def _firewall(config: Config) -> Iterator[Invalid]:
    ports = config.firewall.ports
    if not isinstance(ports, FirewallPorts):
        return
    for port in sorted(set(ports.mx) & set(ports.submission)):
        yield ("firewall", "ports"), f"port {port} cannot be both mx and submission"
    if not ports.mx and not ports.submission:
        yield ("firewall", "ports"), 'no port at all; to touch nothing write mode = "observe"'
