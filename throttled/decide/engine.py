"""Counts what clients do and says who crossed a limit. Pure: no clock, no I/O.

`step` takes one event and the time at which it happened (`at`, on the boot clock when live, the
line's own time in a replay). What came of it waits for `drain`: crossings, for the ladder to judge
with the client's past, and good evidence, for the store. After judging, `hold` and `excuse` let the
engine know what is active and what was spared, so that a client is not judged again by every
further line. Crossings are kept for each subject, scope and limit: none hides another.

What is counted where: `scoped` (tables, crossings), `streams` (sessions), `actions` (what each kind
of event does). Owns these and the trace. Its memory is bounded by `max_clients` (see
`throttled.decide.tables` for what happens at the cap) and `streams`' cap of sessions.
"""

from collections.abc import Mapping, Sequence
from heapq import nlargest

from msgspec import Struct
from msgspec.structs import replace

from throttled.decide.actions import Actions
from throttled.decide.guessing import Guessing
from throttled.decide.limits import CountGauge, Meter, NameGauge
from throttled.decide.scoped import Scoped
from throttled.decide.session import Scale
from throttled.decide.streams import Streams
from throttled.decide.trace import Trace
from throttled.decide.tried import Tried
from throttled.facts import Facts
from throttled.model import (
    LINES,
    SCOPES,
    Action,
    Activity,
    Crossing,
    Event,
    Evidence,
    Line,
    Rate,
    Scope,
)
from throttled.settings import GUESSING, Policy

#: Lines remembered for `explain`.
_TRACE = 1 << 18
#: Clients whose host names are remembered where no name protects.
_NAMED = 20_000
#: How long host names are remembered.
_NAMES = 86400.0
#: Clients of which each limit notes what they reached, until the store has it.
_PEAKS = 20_000


class Outcome(Struct, frozen=True):
    """What a batch of events came to."""

    crossings: list[Crossing]
    evidence: list[Evidence]
    activity: dict[Activity, int]
    #: What clients did above a limit whose slow throttle is active: their sessions are to end.
    further: list[Crossing] = []
    behind: list[Crossing] = []  # of clients behind a proxy
    #: Clients that failed on an account under attack, and logged in since.
    acquitted: list[tuple[str, Scope]] = []
    acquitted_behind: list[tuple[str, Scope]] = []  # … behind a proxy


class Engine:
    """The counting half of deciding."""

    def __init__(self, policy: Policy, facts: Facts, *, peaks: bool = False) -> None:
        """Begin with nothing counted.

        Args:
            policy: limits and points.
            facts: what is so on this host.
            peaks: whether to note the highest that clients reach, for `peaks`.
        """
        self._peaks = _PEAKS if peaks else 0
        #: Which accounts are guessed from many addresses.
        self.guessing = Guessing(policy.guesses())
        self._scopes, self._behind = self._states(policy), self._states(policy, behind=True)
        self._streams = Streams(facts, self._scopes, self._behind)
        self._actions = Actions(policy, self._streams, peaks=peaks)
        self._trace = Trace(_TRACE, policy.max_clients)
        #: Whose lines count.
        self.hosts = self._streams.hosts
        #: Who is banned and gets through.
        self.escapes = self._actions.escapes
        #: Which addresses stand for many clients.
        self.shared = self._actions.shared
        #: Who looks like a health check.
        self.checks = self._actions.checks

    @property
    def now(self) -> float:
        """The latest moment known, where that is not the latest line's.

        A log may be late, or in another zone. What is active ends by it.
        """
        return self._scopes["mx"].now

    @now.setter
    def now(self, now: float) -> None:
        for state in self._all():
            state.now = now

    # What comes in

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self._streams.facts(facts)
        self.shared.facts = facts

    def reconfigure(self, policy: Policy, *, names: bool = False) -> None:
        """Take other limits; those that stay as they were keep their counts.

        Args:
            policy: them.
            names: whether the host names of all clients that the log names are remembered, for a
                day: `handshakes` has none. Else those of the latest, for `named`.
        """
        most = policy.max_clients if names else min(_NAMED, policy.max_clients)
        self._actions.remember_names(_NAMES, most)
        self._actions.scale = Scale(policy.points)
        self.guessing = self.guessing.reconfigured(policy.guesses())
        before = self._all()
        self._scopes, self._behind = self._states(policy), self._states(policy, behind=True)
        for state, old in zip(self._all(), before, strict=True):
            state.adopt(old)
        self._streams.scopes(self._scopes, self._behind)

    def step(self, event: Event, at: float, log: int = 0, source: int = 0, offset: int = 0) -> None:
        """Count one event.

        Args:
            event: what happened.
            at: when, in seconds; not necessarily in order.
            log: which log it came from; sessions of different logs are different.
            source: number of the file, for `explain`.
            offset: where in it the line stands, in bytes; -1: nobody will ask.
        """
        action = self._actions.of.get(event.kind)
        client = event.client
        if action is None or not client:
            if event.kind == "active":
                self._recipients(event, at, source, offset)
            return
        stream = self._streams.of(event, log)
        state = stream.state
        if state is None:
            self.hosts.ignore(log, event.host)
            return
        key = event.pid if event.process != "postscreen" else (client, event.port)
        if stream.behind is not None and self._streams.foreign(event, key):
            state = stream.behind
        if action(state, event, at, key) and offset >= 0:
            self._trace.add(client, at, source, offset)

    def _recipients(self, event: Event, at: float, source: int, offset: int) -> None:
        """Count the recipients of a message against who sent it; only where a limit asks for it."""
        message = event.message
        known = None if message is None else self._actions.queued.pop(message.queue_id)
        if message is None or known is None:
            return
        sent, scope, behind = known
        state = self._state(scope, behind=behind)
        state.count(state.gauges.recipients, sent, at, message.recipients)
        if offset >= 0:
            self._trace.add(sent.client, at, source, offset)

    def ours(self, event: Event, log: int) -> bool:
        """Return whether a line about a message is of a host whose lines count.

        Args:
            event: of the line.
            log: which log it came from.
        """
        ours = self._streams.of(event, log).ours
        if not ours and event.kind not in self._actions.of:  # else `step` does it
            self.hosts.ignore(log, event.host)
        return ours

    def handshakes(self, client: str, scope: Scope, count: int, at: float) -> None:
        """Count connections that the kernel saw a client complete, logged or not.

        They are never added to those that the log reports: see `throttled.decide.limits`.
        """
        state = self._scopes[scope]
        event = Event("connect", client, "", "", 0, 0.0, name=self.name(client))
        state.count(state.gauges.handshakes, event, at, count)
        self._trace.record(client)

    def hold(  # noqa: PLR0913 - what, where, how long, and whether it is so
        self,
        subject: str,
        scope: Scope,
        action: Action,
        until: float,
        at: float,
        *,
        enforced: bool = False,
        rate: Rate | None = None,
        behind: bool = False,
    ) -> None:
        """Learn what is active against a subject, so that it is not judged for less before then.

        Args:
            subject: an address or a network.
            scope: where it is active.
            action: what is active.
            until: end, on the clock of `at`.
            at: now.
            enforced: the kernel drops its packets: a further session means that it is bypassed.
            rate: of a throttle; None: the configured one.
            behind: it is a client behind a proxy, against which nothing is active but would be.
        """
        self._actions.enforcing |= enforced
        state = self._state(scope, behind=behind)
        state.hold(subject, action, until, at, enforced=enforced, rate=rate)

    def share_names(self, tried: Tried) -> None:
        """Count tags in place of user names from now on, and collect them for the fleet.

        Before anything is counted: a name and its tag count as two. Names of clients behind a proxy
        are of this host alone.
        """
        for state in self._scopes.values():
            state.tried = tried

    def elsewhere(
        self, client: str, scope: Scope, tags: Sequence[int], at: float, now: float
    ) -> list[Crossing]:
        """Count user names that a client tried on another host; return what that crossed.

        They count against the client alone, not against its network.

        Args:
            client: canonical address.
            scope: where it tried them.
            tags: of the names.
            at: when, on the boot clock.
            now: on the boot clock.
        """
        return self._scopes[scope].elsewhere(client, tags, at, now)

    def release(self, subject: str, scope: Scope, *, behind: bool = False) -> None:
        """Learn that nothing is active against a subject: what it does next is judged again."""
        self._state(scope, behind=behind).active.release(subject)

    def excuse(
        self, crossing: Crossing, value: int, until: float, at: float, *, behind: bool = False
    ) -> None:
        """Learn what was spared a subject in one limit, so that it is not judged again for that.

        Args:
            crossing: what was judged.
            value: up to which of the limit's values.
            until: end, on the clock of `at`.
            at: now.
            behind: it is a client behind a proxy.
        """
        self._state(crossing.scope, behind=behind).excuse(crossing, value, until, at)

    def in_force(self, subject: str, scope: Scope, at: float) -> float:
        """Return when what is active against a subject ends, as far as known; 0.0: nothing is."""
        return self._scopes[scope].active.until(subject, at)

    def reset(self, subject: str, scope: Scope | None = None) -> None:
        """Reset what a client did: an operator unbanned it."""
        for state in self._all():
            if scope in (None, state.scope):
                state.reset(subject)
                self.escapes.reset(subject, state.scope)
        self._trace.reset(subject)
        self.guessing.reset(subject)

    def reset_all(self, scope: Scope | None = None) -> None:
        """Reset what all clients did: an operator unbanned everybody. Sessions continue."""
        for state in self._all():
            if scope in (None, state.scope):
                state.reset_all()
        self.escapes.clear()
        self.guessing.clear()
        self.clear_lines()

    def clear_lines(self) -> None:
        """Clear where the lines stand that counted; they continue counting."""
        self._trace.clear()

    # What goes out

    def drain(self) -> Outcome:
        """Return what the events since the last call came to."""
        crossings, further, acquitted = self._drained(self._scopes)
        if crossings and (shared := self.shared.found()):  # protected as soon as somebody asks
            crossings = [c for c in crossings if c.subject not in shared]
        behind, _, acquitted_behind = self._drained(self._behind)
        out = self._actions.drain()
        return Outcome(crossings, *out, further, behind, acquitted, acquitted_behind)

    def meters(self, client: str, at: float) -> list[Meter]:
        """Return what the meters of a client or network show, for `explain`.

        The kernel's only if it saw something, those behind a proxy only if it did something there.
        """
        for state in self._all():
            state.flush()
        meters = [gauge.read(client, at) for gauge in self.gauges()]
        meters = [meter for meter in meters if meter.value or not meter.kernel]
        meters += self._guesses(client, at)
        behind = [g.read(client, at) for s in self._behind.values() for g in s.gauges.all()]
        return meters + [replace(meter, proxied=True) for meter in behind if meter.value]

    def _guesses(self, client: str, at: float) -> list[Meter]:
        """Return on how many accounts under attack a client failed; it has no scope."""
        value, settings = self.guessing.accused(client, at), self.guessing.settings
        about = float(settings.within), value, 0, settings.accounts - 1
        return [Meter(GUESSING, scope, *about) for scope in SCOPES if value]

    def worst(self, most: int, at: float) -> list[tuple[str, Meter]]:
        """Return who is nearest to being banned or furthest above a threshold, for `top`.

        Only the clients of the latest lines that counted are looked at: some milliseconds.
        """
        found = []
        for client in self._trace.latest():
            meters = (meter for meter in self.meters(client, at) if not meter.proxied)
            meter = max(meters, key=Meter.share, default=None)
            if meter is not None and meter.value:
                found.append((client, meter))
        return nlargest(most, found, key=lambda row: row[1].share())

    def gauges(self) -> list[CountGauge | NameGauge]:
        """Return the gauges of every limit in every scope."""
        return [gauge for state in self._scopes.values() for gauge in state.gauges.all()]

    def lines(self, client: str) -> tuple[Line, ...]:
        """Return where the latest lines stand that counted against a client."""
        return self._trace.lines(client, LINES)

    def named(self, text: str, most: int) -> list[tuple[str, str]]:
        """Return clients in whose host name a text is, with the name."""
        return self._actions.named(text, most)

    def name(self, client: str) -> str:
        """Return a client's host name; "" where none is known."""
        names = self._actions.names
        return "" if names is None else names.get(client) or ""

    def sessions(self, client: str) -> int:
        """Return how many sessions a client has open."""
        return self._streams.sessions(client)

    def sizes(self) -> dict[str, int]:
        """Return how many clients and sessions are tracked, and how many fell to a cap."""
        tables = [gauge.table for gauge in self.gauges()]
        networks = [gauge.networks for gauge in self.gauges()]
        sessions, dropped = self._streams.sizes()
        return {
            "clients": max((table.size() for table in tables), default=0),
            "sessions": sessions,
            "dropped": dropped
            + self.guessing.dropped
            + sum(table.dropped for table in [*tables, *networks]),
        }

    def _states(self, policy: Policy, *, behind: bool = False) -> dict[Scope, Scoped]:
        peaks = 0 if behind else self._peaks
        guessing = self.guessing
        return {s: Scoped(policy, s, guessing, peaks, behind=behind) for s in SCOPES}

    def _all(self) -> tuple[Scoped, ...]:
        return *self._scopes.values(), *self._behind.values()

    def _state(self, scope: Scope, *, behind: bool) -> Scoped:
        return (self._behind if behind else self._scopes)[scope]

    def _drained(
        self, scopes: Mapping[Scope, Scoped]
    ) -> tuple[list[Crossing], list[Crossing], list[tuple[str, Scope]]]:
        """Return what `Scoped.drain` does, of some scopes: the crossings with their lines."""
        crossings: list[Crossing] = []
        further: list[Crossing] = []
        acquitted: list[tuple[str, Scope]] = []
        for state in scopes.values():
            pending, others, cleared = state.drain()
            lines = {subject: self.lines(subject) for subject in {c.subject for c in pending}}
            crossings += [replace(c, lines=lines[c.subject]) for c in pending]
            further += others
            acquitted += [(client, state.scope) for client in cleared]
        return crossings, further, acquitted
