"""How much misbehaviour good evidence excuses, kind by kind. Pure; owns no state.

Mail that a client delivered speaks for its connections, errors and callouts, a login for failed
logins and the names tried; neither speaks for the other. Two rules, both with a bound, so that no
amount of good buys a dictionary attack:

- What happened within the limit's own window raises the threshold: by `forgives` for each good
  event where it asks for a throttle, by `forgives_ban` where it asks for a ban, up to `factor`
  times the threshold.
- What the store remembers of 30 days turns a ban into a throttle, by one point for each event, up
  to `memory` times the threshold.
"""

from typing import Literal

from throttled.model import Past
from throttled.settings import Good

#: "none": of limits that count mail, which mail does not speak for, and what senders do.
Kind = Literal["deliveries", "logins", "none"]
KINDS: tuple[Kind, ...] = ("deliveries", "logins", "none")

_KINDS: dict[str, Kind] = {
    "connections": "deliveries",
    "handshakes": "deliveries",
    "errors": "deliveries",
    "callouts": "deliveries",
    "auth_failures": "logins",
    "auth_users": "logins",
}
_DAY = 86400.0
_LOGIN_COUNTS = 30 * _DAY
#: What the store knows speaks for a client from the second day with a delivery on.
_DAYS = 2
#: A single login is no history: the brake takes more than one.
_PROVEN = 2


def kind_of(count: str) -> Kind:
    """Return which good events speak for what a limit counts."""
    return _KINDS.get(count, "none")


def threshold(plain: int, good: int, settings: Good, *, ban: bool) -> int:
    """Return a threshold with what good events of its window add to it.

    Args:
        plain: as configured.
        good: good events of the limit's kind within its window.
        settings: the operator's.
        ban: whether it is the one that asks for a ban.
    """
    forgives = settings.forgives_ban if ban else settings.forgives
    return plain + min(forgives * good, (settings.factor - 1) * plain)


def remembered(count: str, past: Past, now: float) -> int:
    """Return how many good events the store knows that speak for a client in a limit."""
    if kind_of(count) == "logins":
        return past.logins if now - past.last_login < _LOGIN_COUNTS else 0
    known = past.deliveries if past.delivery_days >= _DAYS else 0
    return known if kind_of(count) == "deliveries" else 0


def lenient(plain: int, good: int, known: int, settings: Good) -> int:
    """Return the value up to which a client that the store knows is spared the worst.

    Args:
        plain: the threshold as configured.
        good: good events of the limit's kind within its window.
        known: those that are remembered; 0: nothing is spared.
        settings: the operator's.
    """
    if not known:
        return 0
    return plain + min(settings.forgives_ban * good + known, (settings.memory - 1) * plain)


def proven(count: str, past: Past, now: float) -> bool:
    """Return whether a client counts as good for the brake, by the kind that speaks in a limit.

    Anybody can deliver two tiny mails, but only one who prepared himself did so on two days.
    """
    known = remembered(count, past, now)
    return known >= _PROVEN if kind_of(count) == "logins" else known > 0
