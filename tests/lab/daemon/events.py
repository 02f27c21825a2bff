"""Events as the parser makes them, and an engine to count them, for the tests of `decide`."""

from collections.abc import Iterable
from typing import Any

from throttled.decide.engine import Engine
from throttled.facts import Facts
from throttled.model import Crossing, Event
from throttled.settings import Policy

A = "198.51.100.7"
B = "198.51.100.8"
#: The counters of a session in which nothing was sent.
EMPTY = {"commands": (0, 0)}


def event(kind: str, client: str = A, **fields: Any) -> Event:
    """Return an event of a client."""
    known: dict[str, Any] = {"process": "smtpd", "instance": "postfix", "pid": 1, "time": 50.0}
    return Event(kind=kind, client=client, **(known | fields))  # type: ignore[arg-type]


def engine(policy: Policy | None = None, facts: Facts | None = None) -> Engine:
    """Return an engine that has counted nothing."""
    return Engine(policy or Policy(), facts or Facts())


def run(events: Iterable[Event], at: float = 1000.0, under: Engine | None = None) -> list[Crossing]:
    """Count events at one time; return the crossings."""
    under = under or engine()
    for number, what in enumerate(events):
        under.step(what, at, 0, 1, number)
    return under.drain().crossings


def session(*inside: Event, commands: dict[str, tuple[int, int]] | None = None) -> list[Event]:
    """Return the events of a session."""
    return [event("connect"), *inside, event("disconnect", commands=commands)]


def value(under: Engine, limit: str, at: float = 1000.0) -> int:
    """Return what the meter of A in `mx` shows for a limit."""
    meters = {(meter.limit, meter.scope): meter.value for meter in under.meters(A, at)}
    return meters[limit, "mx"]


def auth(user: str = "", **fields: Any) -> Event:
    """Return a failed login on submission."""
    return event("auth_failure", instance="postfix/submission", user=user, **fields)
