"""Overload: when strangers are delayed, for how long, and whose sessions are ended. Pure.

Clients without good evidence, *strangers*, may have some connections open at a time (the cap); the
kernel drops further ones (`throttled.enforce.admission`). Here is what follows from what it dropped
and from what their sessions did.

Known good is a client that delivered mail on two days, or logged in twice, within 30 days: a botnet
that delivered one spam from each address is not.

Places: each connection for which Postfix has no idle process makes its master start one, some 80 a
second, and known good clients wait in the same queue. So of strangers only so many may wait for one
as this server started processes between two looks.

Turns: while the cap drops connections, a network is admitted once in T seconds, so that an attack
has no network left and the next newcomer is admitted at once. T grows by two seconds a second, up
to twice the time in which all networks seen had their turn, so that half of the places stay for
newcomers. It shrinks while strangers have less than a quarter of the places, by as much as fills
that quarter, and while the cap drops nothing: honest clients of one network shall not wait beside
free places. Networks that come more than five times a second even so take no turns: few clients
that flood are banned by the limits, which turns would only keep from seeing them. Turns begin after
`_STORM`, so that a short honest storm is not slowed; where fewer processes serve one, it lasts as
many times longer. Pauses make up for as much of a storm as they last.

Sessions: while the cap drops connections, those are ended that kept Postfix waiting longer than
`idle` in all, the longest first; what they send makes up for it (`throttled.core.waits`). So an
upload at modem speed is not ended, and a NOOP every seven seconds does not help. What Postfix
itself needs (look-ups, a policy service, the rest of postscreen's greeting) is not the client's
time. Who says nothing at all after the greeting has a third of the time: honest clients answer
within a round trip, and silent bots leave no place free for newcomers longer than that. Sessions in
which Postfix owes a reply have six times as long, once they received enough for a message: between
its final dot and the reply the client does not know that it was accepted. As long have those that
no process accepts: else a few dozen that wait for a service without a process would keep newcomers
out of all others. A network whose session was ended without a message is not admitted for
`POSTPONED` seconds: a few hundred that each keep a place as long as they may would have all of them
in turn.

Owns the state of one scope.
"""

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from throttled.model import RESTRICTING, Past
from throttled.settings import Overload as Settings

#: Seconds of drops before strangers count as delayed, and without drops before they no longer do.
_BEGINS, _ENDS = 3.0, 60.0
#: Drops further apart than this are not one reason to delay.
_PAUSE = 2.0
#: New strangers in 100 ms, where they cannot be counted: Postfix's master starts about 80 processes
#: a second (measured, Postfix 3.7.11).
PACE = 8
#: Of the cap: so many are admitted at once, whatever processes there are.
_AT_ONCE = 8
#: So many may wait for a process on the slowest server.
_ROOM = 2
#: Seconds for which a process stays (half of Postfix's max_idle).
_STAYS = 50.0
#: Seconds of drops by a cap of `_USUAL` before turns begin.
_STORM, _USUAL = 5.0, 80
#: Seconds by which T grows in a second, and shrinks at most.
_GROWS, _SHRINKS = 2.0, 10.0
#: Seconds without drops by the cap after which T shrinks beside few free places too, by this share
#: of itself a second: a flood that needs turns has the other places for a moment then.
_QUIET, _SLOWLY = 30.0, 1 / 60
#: Share of the places beside which turns are shortened. T that is a second shorter after a second
#: admits twice as many for that second, one that is two seconds shorter three times as many.
_QUARTER = 0.25
#: A T below this is none: so often come networks that the limits ban (300 connections a minute).
_SHORTEST = 0.4
#: Seconds over which strangers' places are averaged, and those that come and go.
_PLACES, _SMOOTH = 3.0, 10.0
#: Seconds between two looks that count for T at most: a daemon that stood still saw no storm.
_LONGEST = 1.0
#: Services with fewer processes have no cap: a reserve of one would be a large share, and strangers
#: that wait some tenths of a second for Postfix would be delayed by a second in calm times.
FEWEST = 5
#: The kernel counts SYNs before they are connections: an eighth more than the cap may be open
#: without having begun in the middle of an attack.
_SLACK = 8
#: Bytes without which there is no message in a session: EHLO, MAIL, RCPT, DATA and a header.
_MESSAGE = 160
#: Seconds, longer than the longest turn: an honest one comes again after 5 to 15 minutes.
POSTPONED = 900.0
#: Multiples of `idle` for a session in which Postfix owes a reply, with and without a message.
_OWES, _OWES_LITTLE = 6.0, 2.0
#: And for one that said nothing.
_SILENT = 0.3
_DAYS, _LOGINS = 2, 2
_MONTH = 30 * 86400.0


class Look(Struct, frozen=True):
    """What strangers did since the look before."""

    over_cap: int = 0  # connections dropped because the cap was reached …
    paced: int = 0  # … because Postfix has no process for them yet …
    others: int = 0  # … because of turns, say
    admitted: int = 0  # completed handshakes
    networks: int = 0  # admitted lately; 0: not known
    open: int = 0  # connections that they have now

    @property
    def dropped(self) -> int:
        """Return all that were dropped."""
        return self.over_cap + self.paced + self.others


class Change(Struct, frozen=True):
    """What the latest drops changed."""

    began: bool = False  # strangers are being delayed from now on
    ended: bool = False


class Delays:
    """Whether strangers are being delayed, and how."""

    def __init__(self) -> None:
        """Begin without delays."""
        self.since = 0.0  # of the first drop; 0.0: none lately
        self.delaying = False
        self.turn = 0.0  # T, in seconds
        self.full = False  # the cap dropped connections within the last moments
        self._latest = 0.0  # the last drop …
        self._capped = 0.0  # … of the cap
        self._storm = 0.0  # seconds of drops, less those without
        self._at = 0.0
        self._open = self._admitted = 0.0  # those open, and a second, over some seconds

    def step(self, at: float, look: Look, longest: float, cap: int = _USUAL) -> Change:
        """Learn what happened since the last call.

        Args:
            at: now, on the boot clock.
            look: what happened.
            longest: T at most.
            cap: of connections.
        """
        before = self.delaying
        passed = at - self._at if self._at else 0.0
        self._at = at
        if look.dropped:
            self.since = self.since or at
            self._latest = at
        elif self.since and at - self._latest > (_ENDS if self.delaying else _PAUSE):
            self.since, self.turn, self.delaying = 0.0, 0.0, False
        if look.over_cap:
            self._capped = at
        self.full = bool(self._capped) and at - self._capped <= _PAUSE
        self.delaying |= bool(self.since) and self._latest - self.since >= _BEGINS
        if passed > 0:
            share = min(1.0, passed / _PLACES)
            self._open += (look.open - self._open) * share
            self._admitted += (look.admitted / passed - self._admitted) * share
            self._adapt_turn(at, look, min(passed, _LONGEST), longest, cap)
        return Change(self.delaying and not before, before and not self.delaying)

    def _adapt_turn(self, at: float, look: Look, passed: float, longest: float, cap: int) -> None:
        storm = _STORM * max(1.0, _USUAL / cap)
        self._storm += passed if look.dropped else -passed
        self._storm = min(storm, max(0.0, self._storm))
        if look.over_cap and (self.turn or self._storm >= storm):
            turn = (self.turn or _GROWS * _STORM) + _GROWS * passed
            self.turn = max(self.turn, min(turn, self._all(look.networks)))
        elif self.turn and not look.paced:
            least = self.turn * _SLOWLY if at - self._capped > _QUIET else 0.0
            wanted = _QUARTER / max(self._open / cap, 0.001) - 1.0
            self.turn -= passed * min(_SHRINKS, max(least, wanted))
        self.turn = min(self.turn, longest)
        if self.turn < _SHORTEST:
            if self.turn:
                self._storm = 0.0
            self.turn = 0.0

    def _all(self, networks: int) -> float:
        """Return twice the time in which so many networks are admitted once."""
        known = networks and self._admitted
        return 2 * networks / self._admitted if known else math.inf


class Passing:
    """Whether strangers come and go before Postfix accepts them, as those that reset at once.

    They have no places by then, so the cap drops none, however many there are. They are turned away
    as those above the cap are: once more of them are dropped than admitted, and in each second more
    admitted than the cap. (A Postfix that accepts nothing admits none.)
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._at = 0.0
        self._paced = self._admitted = 0.0  # a second, over some seconds

    def step(self, at: float, paced: int, admitted: int, cap: int) -> int:
        """Return how many of those dropped since the last call count as dropped by the cap.

        Args:
            at: now, on the boot clock.
            paced: dropped because there was no process.
            admitted: completed handshakes.
            cap: of connections.
        """
        passed, self._at = at - self._at, at
        if passed > 0:
            share = min(1.0, passed / _SMOOTH)
            self._paced += (paced / passed - self._paced) * share
            self._admitted += (admitted / passed - self._admitted) * share
        return paced if self._paced > self._admitted > cap else 0


class Processes:
    """How many processes of Postfix there are for strangers, and how many may be started for them.

    Those that accepted connections lately are there. Of strangers for whom one must be started, as
    many may wait as this server starts between two looks.
    """

    def __init__(self, cap: int) -> None:
        """Begin with none.

        Args:
            cap: connections that strangers may have in the end.
        """
        self.ready = 0  # for strangers
        self._cap = cap
        self._room = at_once(cap)
        self._latest = self._earlier = 0  # most that were accepted within two times
        self._ends = 0.0  # of the first of them

    @property
    def places(self) -> int:
        """Connections that strangers may have open now."""
        return min(self._cap, self.ready + self._room)

    def see(self, at: float, accepted: int, known: int, waiting: int) -> None:
        """Learn how many connections there are.

        Args:
            at: now, on the boot clock.
            accepted: those that a process has.
            known: of these, connections of known good clients.
            waiting: those that no process has accepted yet.
        """
        if at >= self._ends:
            fresh = at < self._ends + _STAYS / 2
            self._earlier = self._latest if fresh else 0
            self._latest, self._ends = 0, at + _STAYS / 2
        self._latest = max(self._latest, accepted)
        most = max(self._latest, self._earlier)
        self.ready = most - known
        waiting -= most - accepted  # the others wait for a process that is idle
        if waiting > self._room // 2:
            self._room = max(_ROOM, self._room // 2)
        elif waiting <= self._room // 4:
            self._room = min(at_once(self._cap), self._room * 2)


def at_once(cap: int) -> int:
    """Return for how many strangers processes may be started at once, at most."""
    return max(PACE, cap // _AT_ONCE)


class Place(Struct, frozen=True):
    """A stranger's open connection."""

    key: bytes
    #: Seconds since Postfix greeted it (before that, since a process accepted it) in which Postfix
    #: waited for it; those in which Postfix owed a reply, if it owes one now; less those that what
    #: it sent makes up for. If it is queued, since it is open.
    age: float
    received: int  # bytes
    answered: bool  # Postfix waits for the client
    queued: bool  # no process has accepted it yet

    @property
    def wasted(self) -> bool:
        """Whether there was no message, or it has no end."""
        return not self.queued and (self.received < _MESSAGE or not self.answered)


def cap(settings: Settings, processes: Iterable[int]) -> int:
    """Return how many connections strangers may have open at a time; 0: any number.

    Args:
        settings: the operator's.
        processes: the process limits of the services; 0: no limit. The greatest counts: a small
            service beside the main one must not make that as small. Below `FEWEST` there is no cap.
    """
    if settings.cap != "auto":
        return settings.cap
    most = max(processes, default=0)
    reserve = most * float(settings.reserve.rstrip("%")) / 100
    return max(1, int(most - reserve)) if most >= FEWEST else 0


def to_end(
    places: Sequence[Place], most: int, wanted: int, idle: float, greeting: float = 0.0
) -> list[Place]:
    """Return the connections to end.

    Args:
        places: of strangers.
        most: the cap. There are far more if it began in the middle of an attack: then those that no
            process accepted yet are ended first.
        wanted: how many others wait for a place.
        idle: see the settings.
        greeting: seconds between the first and the last line of Postfix's greeting, in which honest
            clients are silent.
    """
    above = len(places) - most
    if above <= most // _SLACK:
        above = 0
    queued = [place for place in places if place.queued]
    ended, others = queued[:above], queued[above:]
    others += [place for place in places if not place.queued]
    late = [(place.age - greeting - _time(place, idle), place) for place in others]
    late = sorted((one for one in late if one[0] >= 0), key=lambda one: -one[0])
    return ended + [place for _, place in late[: max(wanted, above - len(ended))]]


def _time(place: Place, idle: float) -> float:
    """Return how long a connection may last."""
    factor = 1.0 if place.received else _SILENT
    if place.queued:
        factor = _OWES
    elif not place.answered:
        factor = _OWES if place.received >= _MESSAGE else _OWES_LITTLE
    return factor * idle


def known_good(past: Past, now: float) -> bool:
    """Return whether a client is known good in a scope: no stranger, whatever its connections do.

    Args:
        past: what the store knows of it there.
        now: wall clock.
    """
    if past.action in RESTRICTING and past.until > now:
        return False
    logins = past.logins if now - past.last_login < _MONTH else 0
    return past.delivery_days >= _DAYS or logins >= _LOGINS
