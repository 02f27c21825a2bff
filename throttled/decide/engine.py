"""Counts what clients do and says who crossed a limit. Pure: no clock, no I/O.

`step` takes one event and the time at which it happened (`at`, on the boot clock when live, the
line's own time in a replay). What came of it waits for `take`: crossings, for the ladder to judge
with the client's past, and good evidence, for the store. After judging, `hold` and `excuse` let the
engine know what is in force and what was spared, so that a client is not judged again by every
further line. Crossings are kept for each subject, scope and limit: none hides another.

Owns the tables, the sessions and the trace. Its memory is bounded by `max_clients` (see
`throttled.decide.tables` for what happens at the cap) and `_SESSIONS`.
"""

from collections.abc import Callable, Iterable
from heapq import nlargest
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from throttled.address import network_of
from throttled.decide.active import Active, Excuse
from throttled.decide.allowance import Kind
from throttled.decide.escapes import LATE, Escapes
from throttled.decide.hosts import Hosts
from throttled.decide.limits import CountGauge, Gauges, Meter, NameGauge
from throttled.decide.noting import NotingCounters, NotingDistinct
from throttled.decide.protect import PROXY, Protection
from throttled.decide.session import Scale, Session, failed, family, proves, unnamed
from throttled.decide.tables import Counters, Generations
from throttled.decide.trace import Trace
from throttled.model import (
    SCOPES,
    Action,
    Crossing,
    Event,
    Evidence,
    Facts,
    Line,
    Peak,
    Rate,
    Scope,
)
from throttled.settings import Count, Policy

#: Sessions known at once in a stream; Postfix runs some hundred smtpd. At the cap those silent the
#: longest are forgotten: their `disconnect` may then count again what their lines had said.
_SESSIONS = 20_000
_SESSION_TIME = 3600.0
#: Lines remembered for `explain`, and how many of them go with a decision.
_TRACE = 1 << 18
_LINES = 16
#: A client looks like a health check after so many sessions within so many seconds that wanted
#: nothing, and none that did; so many such clients are remembered.
_HEALTH_CHECK, _IDLE_TIME, _HEALTH_CHECKS = 30, 3600.0, 50
#: A site has a handful of probes and load balancers; more clients than these are a flood.
_PROBES = 8
#: Failed logins that are not provably an account's own, but that logins of a client with that name
#: excuse, within so many seconds: who has one account must not try others for nothing.
_EXCUSES, _EXCUSE_TIME = 500, 86400.0
#: Between PASS of postscreen and `connect` of smtpd for the same connection.
_HANDOVER = 60.0
#: How long host names are remembered.
_NAMES = 86400.0
#: Clients of which each limit notes what they reached, until the store has it.
_NOTED = 20_000
#: Streams known; a host has a handful, a forger any number.
_STREAMS = 100

#: A pid; of postscreen, which serves many at once, the client and its port.
_SessionKey = int | tuple[str, int]


class Outcome(Struct, frozen=True):
    """What a batch of events came to."""

    crossings: list[Crossing]
    evidence: list[Evidence]
    #: What clients did above a limit whose slow throttle is in force: their sessions are to end.
    further: list[Crossing] = []


class _Scoped:
    """The state of one scope."""

    def __init__(self, policy: Policy, scope: Scope, noted: int) -> None:
        self.scope = scope
        self.gauges = Gauges.of(policy, scope, noted)
        self.screening = False  # whether there is a postscreen that hands connections over
        self.handover: Generations[str, int] = Generations(_HANDOVER, policy.max_clients)
        self.held = Active(policy.max_clients)


class _Stream:
    """The lines of one log that one instance of Postfix on one host wrote, and its sessions."""

    def __init__(self, log: int, instance: str, host: str, state: _Scoped | None) -> None:
        self.log = log
        self.instance = instance
        self.host = host
        self.state = state  # None for another host's
        self.sessions: Generations[_SessionKey, Session] = Generations(_SESSION_TIME, _SESSIONS)


class Engine:
    """The counting half of deciding."""

    def __init__(self, policy: Policy, facts: Facts, *, noting: bool = False) -> None:
        """Begin with nothing counted.

        Args:
            policy: limits and points.
            facts: what is so on this host.
            noting: whether to note the highest that clients reach, for `noted`.
        """
        self._noted = _NOTED if noting else 0
        self._scopes = {scope: _Scoped(policy, scope, self._noted) for scope in SCOPES}
        self._streams: dict[tuple[int, str, str], _Stream] = {}
        self._current = _Stream(-1, "", "", None)  # of the latest event
        self._scale = Scale(policy.points)
        self._policy = policy
        self._trace = Trace(_TRACE, policy.max_clients)
        self._pending: dict[tuple[str, Scope, str], Crossing] = {}
        self._evidence: dict[str, Evidence] = {}
        self._further: dict[tuple[str, Scope, int, int], Crossing] = {}  # by session
        self._facts = facts
        self.hosts = Hosts(facts)
        #: Host names of clients, where names protect: a handshake does not tell.
        self._names: Generations[str, str] | None = None
        self._proxies = _proxies(facts)
        #: Who is banned and gets through.
        self.escapes = Escapes()
        #: Sessions that wanted nothing, of clients that have had no others; the latest clients with
        #: many of them.
        self._idle = Counters(_IDLE_TIME, policy.max_clients)
        self._checks: Generations[str, str] = Generations(_IDLE_TIME, _HEALTH_CHECKS)
        #: The latest moment known, where that is not the latest line's: a log may be late, or in
        #: another zone. What is in force ends by it.
        self.now = 0.0
        self._enforcing = False  # whether anything of it is in a kernel
        self._excused = Counters(_EXCUSE_TIME, policy.max_clients)  # by client and user name
        self._actions: dict[str, Callable[[_Scoped, Event, float, _SessionKey], int]] = {
            "connect": self._connect,
            "screened": self._screened,
            "passed": self._passed,
            "disconnect": self._disconnect,
            "auth_failure": self._auth_failure,
            "login": self._login,
            "tls_failure": self._tls_failure,
            **dict.fromkeys(Scale.kinds(), self._error),
        }

    # What comes in

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self._facts = self.hosts.facts = facts
        self._proxies = _proxies(facts)
        self._assign()

    def reconfigure(self, policy: Policy, *, names: bool = False) -> None:
        """Take other limits; those that stay as they were keep their counts.

        Args:
            policy: them.
            names: whether to remember the host names of clients that the log tells, for a day:
                `handshakes` has none.
        """
        if not names:
            self._names = None
        elif self._names is None:
            self._names = Generations(_NAMES, policy.max_clients)
        scopes = {scope: _Scoped(policy, scope, self._noted) for scope in SCOPES}
        for scope, before in self._scopes.items():
            scopes[scope].held = before.held
            scopes[scope].screening = before.screening
            scopes[scope].handover = before.handover
            scopes[scope].gauges.adopt(before.gauges)
        self._scopes = scopes
        self._scale = Scale(policy.points)
        self._policy = policy
        self._assign()

    def step(self, event: Event, at: float, log: int = 0, source: int = 0, offset: int = 0) -> None:
        """Count one event.

        Args:
            event: what happened.
            at: when, in seconds; not necessarily in order.
            log: which log it came from; sessions of different logs are different.
            source: number of the file, for `explain`.
            offset: where in it the line stands, in bytes; -1: nobody will ask.
        """
        action = self._actions.get(event.kind)
        client = event.client
        if action is None or not client:
            return
        stream = self._current
        # Mostly the same again; the parser gives the same text as the same object.
        if (
            stream.instance is not event.instance
            or stream.host is not event.host
            or stream.log != log
        ):
            stream = self._current = self._stream(event, log)
        state = stream.state
        if state is None:
            self.hosts.ignore(log, event.host)
            return
        key = event.pid if event.process != "postscreen" else (client, event.port)
        if self._proxies is not None and _named_by_proxy(stream.sessions.get(key), event):
            return
        if action(state, event, at, key) and offset >= 0:
            self._trace.add(client, at, source, offset)

    def handshakes(self, client: str, scope: Scope, count: int, at: float) -> None:
        """Count connections that the kernel saw a client complete, logged or not.

        They are never added to those that the log tells of: see `throttled.decide.limits`.
        """
        group = self._scopes[scope].gauges.handshakes
        name = "" if self._names is None else self._names.get(client) or ""
        self._count(group, Event("connect", client, "", "", 0, 0.0, name=name), at, count)
        self._trace.note(client)

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
    ) -> None:
        """Learn what is in force against a subject, so that it is not judged for less before then.

        Args:
            subject: an address or a network.
            scope: where it is in force.
            action: what is in force.
            until: end, on the clock of `at`.
            at: now.
            enforced: the kernel drops its packets: a further session means that it is bypassed.
            rate: of a throttle; None: the configured one.
        """
        self._enforcing |= enforced
        held = self._scopes[scope].held
        if action == "ban":
            held.ban(subject, until, at, enforced=enforced)
        elif action == "throttle":
            given = self._policy.throttle
            pace = given.rate / given.per if rate is None else rate.count / rate.per
            held.throttle(subject, until, at, pace)

    def release(self, subject: str, scope: Scope) -> None:
        """Learn that nothing is in force against a subject: what it does next is judged again."""
        self._scopes[scope].held.release(subject)

    def excuse(self, crossing: Crossing, value: int, until: float, at: float) -> None:
        """Learn what was spared a subject in one limit, so that it is not judged again for that.

        Args:
            crossing: what was judged.
            value: up to which of the limit's values.
            until: end, on the clock of `at`.
            at: now.
        """
        excuse = Excuse(crossing.action, value, until)
        self._scopes[crossing.scope].held.excuse(crossing.subject, crossing.limit, excuse, at)

    def in_force(self, subject: str, scope: Scope, at: float) -> float:
        """Return when what is in force against a subject ends, as far as known; 0.0: nothing is."""
        return self._scopes[scope].held.until(subject, at)

    def forget(self, subject: str, scope: Scope | None = None) -> None:
        """Forget what a client did: an operator unbanned it."""
        for state in self._scopes.values():
            if scope in (None, state.scope):
                limits = set()
                for gauge in state.gauges.all():
                    limits.add(gauge.limit)
                    gauge.table.pop(subject)
                    gauge.networks.pop(subject)
                    self._pending.pop((subject, state.scope, gauge.limit), None)
                state.held.forget(subject, limits)
                self.escapes.forget(subject, state.scope)
        self._trace.forget(subject)

    def forget_all(self, scope: Scope | None = None) -> None:
        """Forget what all clients did: an operator unbanned everybody. Sessions go on."""
        for state in self._scopes.values():
            if scope in (None, state.scope):
                for gauge in state.gauges.all():
                    gauge.table.clear()
                    gauge.networks.clear()
                state.held.clear()
        self.escapes.clear()
        self._pending = {key: c for key, c in self._pending.items() if scope not in (None, key[1])}
        self.forget_lines()

    def forget_lines(self) -> None:
        """Forget where the lines stand that counted; they go on counting."""
        self._trace.clear()

    # What goes out

    def take(self) -> Outcome:
        """Return what the events since the last call came to."""
        crossings = [replace(c, lines=self.lines(c.subject)) for c in self._pending.values()]
        further = list(self._further.values())
        outcome = Outcome(crossings, list(self._evidence.values()), further)
        self._pending = {}
        self._evidence = {}
        self._further = {}
        return outcome

    def meters(self, client: str, at: float) -> list[Meter]:
        """Return what the meters of a client or network show, for `explain`.

        The kernel's only if it saw something.
        """
        meters = [gauge.read(client, at) for gauge in self.gauges()]
        return [meter for meter in meters if meter.value or not meter.kernel]

    def worst(self, most: int, at: float) -> list[tuple[str, Meter]]:
        """Return who is nearest to being banned or furthest above a threshold, for `top`.

        Only the clients of the latest lines that counted are looked at: some milliseconds.
        """
        found = []
        for client in self._trace.latest():
            meter = max(self.meters(client, at), key=Meter.share, default=None)
            if meter is not None and meter.value:
                found.append((client, meter))
        return nlargest(most, found, key=lambda row: row[1].share())

    def gauges(self) -> list[CountGauge | NameGauge]:
        """Return the gauges of every limit in every scope."""
        return [gauge for state in self._scopes.values() for gauge in state.gauges.all()]

    def noted(self, most: int) -> list[Peak]:
        """Return some of what was noted of clients, until `recorded` is told that it is kept."""
        every = (
            Peak(client, gauge.scope, gauge.limit, gauge.count, gauge.within, value)
            for gauge in self.gauges()
            if isinstance(gauge.table, NotingCounters | NotingDistinct)
            for client, value in gauge.table.peaks.highest.items()
        )
        return list(islice(every, most))

    def watched(self) -> list[tuple[Scope, str, Count, float]]:
        """Return of which limits it is noted: scope, name, what it counts, window in seconds."""
        return [(g.scope, g.limit, g.count, g.within) for g in self.gauges() if not g.kernel]

    def recorded(self, peaks: Iterable[Peak]) -> None:
        """Forget what was noted and is kept elsewhere now."""
        tables = {(g.scope, g.limit, g.within): g.table for g in self.gauges() if not g.kernel}
        for peak in peaks:
            table = tables.get((peak.scope, peak.limit, peak.within))
            if isinstance(table, NotingCounters | NotingDistinct):
                table.peaks.written(peak.client, peak.value)

    def lines(self, client: str) -> tuple[Line, ...]:
        """Return where the latest lines stand that counted against a client."""
        return self._trace.lines(client, _LINES)

    def sessions(self, client: str) -> int:
        """Return how many sessions a client has open."""
        return sum(
            session.client == client
            for stream in self._streams.values()
            for session in stream.sessions.values()
        )

    def health_check(self, client: str, at: float) -> int:
        """Return how many sessions a client had within an hour, if it looks like a health check."""
        count = self._idle.value(client, at)
        return count if count >= _HEALTH_CHECK else 0

    def health_checks(self, at: float) -> list[str]:
        """Return clients that look like health checks; none where they are too many to be any.

        A flood that only connects looks the same: it is not to be allowlisted.
        """
        clients = [client for client in self._checks.values() if self.health_check(client, at)]
        return clients if len(clients) <= _PROBES else []

    def sizes(self) -> dict[str, int]:
        """Return how many clients and sessions are tracked, and how many fell to a cap."""
        tables = [gauge.table for gauge in self.gauges()]
        networks = [gauge.networks for gauge in self.gauges()]
        sessions = [stream.sessions for stream in self._streams.values()]
        return {
            "clients": max((table.size() for table in tables), default=0),
            "sessions": sum(table.size() for table in sessions),
            "dropped": sum(table.dropped for table in [*tables, *networks, *sessions]),
        }

    # A method for each kind of event: it returns whether the line counted against the client.

    def _connect(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        session = Session(event.client, at)
        self._current.sessions.put(key, session, at)
        if self._names is not None and event.name:
            self._names.put(event.client, event.name, at)
        if self._proxies is not None and self._proxies.reason(event.client) == PROXY:
            session.proxy = True
        passed = state.screening and state.handover.get(event.client)
        if passed:
            # One connection, logged by postscreen (CONNECT) and then by smtpd.
            state.handover.put(event.client, passed - 1, at)
            return 0
        if self._enforcing:
            self._escaped(state, event, at)
        return self._count(state.gauges.connections, event, at, event.count)

    def _screened(self, state: _Scoped, event: Event, at: float, _key: _SessionKey) -> int:
        if self._enforcing:
            self._escaped(state, event, at)
        return self._count(state.gauges.connections, event, at, event.count)

    def _passed(self, state: _Scoped, event: Event, at: float, _key: _SessionKey) -> int:
        state.screening = True
        waiting = state.handover.get(event.client) or 0
        state.handover.put(event.client, waiting + event.count, at)
        return 0

    def _error(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        session = self._session(event, at, key)
        if event.kind == "reject" and event.user:
            self._logged_in(state, session, event.user, at)
        before = session.callouts
        points = self._scale.error(session, event, at, state.scope)
        if before == 0 and session.callouts == 1:
            session.callout = at
            return self._count(state.gauges.callouts, event, at, 1)
        if before == 1 and session.callouts > 1:
            self._take_back(state.gauges.callouts, event.client, session.callout, 1)
        return self._count(state.gauges.errors, event, at, points)

    def _auth_failure(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        session = self._session(event, at, key)
        session.auth_lines += event.count
        if event.reason == "temporary":
            session.harmless += event.count
            return 0
        session.errors += event.count
        if event.user:
            self._name(state, event, at)
        counted = self._scale.auth_failures(session, event.user, event.count, at)
        return self._count(state.gauges.auth_failures, event, at, counted)

    def _login(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        self._logged_in(state, self._session(event, at, key), event.user, at)
        return self._good(state, event, at, deliveries=0, logins=event.count)

    def _tls_failure(self, _state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        self._session(event, at, key).harmless += event.count
        return 0

    def _disconnect(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        session = self._current.sessions.pop(key)
        if session is None or session.client != event.client:  # lines were lost: another one's
            session = Session(event.client, at)
        commands = event.commands
        if commands is None and event.process != "postscreen":
            return 0  # Postfix before 3.0 counts nothing here
        if session.idle(commands):
            self._note_idle(event.client, at)
        else:
            self._idle.pop(event.client)
        if commands is None:
            return 0
        accepted, total = commands.get("commands", _UNSAID)
        if not total:
            weight = 0 if session.said() else self._scale.empty_session
            return self._count(state.gauges.errors, event, at, weight)
        self._achieved(state, session, event, at)
        if accepted == total:
            return 0
        return self._unreported(state, session, event, at)

    def _achieved(self, state: _Scoped, session: Session, event: Event, at: float) -> None:
        """Note what a session that ends accomplished: mail, a login that no line reported."""
        commands = event.commands or {}
        if "data" in commands or "bdat" in commands:
            # A `bdat` is a part of a message, a `data` a whole one.
            deliveries = commands.get("data", _NONE)[0] + min(1, commands.get("bdat", _NONE)[0])
            if deliveries:
                self._good(state, event, at, deliveries=deliveries, logins=0)
                for then, points in session.pipelined:
                    self._take_back(state.gauges.errors, event.client, then, points)
        if "auth" in commands and commands["auth"][0] and not session.login:
            self._logged_in(state, session, "", at)
            self._good(state, event, at, deliveries=0, logins=1)

    def _unreported(self, state: _Scoped, session: Session, event: Event, at: float) -> int:
        """Count what only the counters of `disconnect` report."""
        commands = event.commands or {}
        unseen = failed(commands, "auth") - session.auth_lines
        if session.login:
            counted = unnamed(unseen)
            if unseen > counted and not self._excuses(event.client, "", unseen - counted, at):
                counted = unseen
            return self._count(state.gauges.auth_failures, event, at, counted)
        counted = 0
        if unseen > 0 and not session.denied:
            counted = self._scale.auth_failures(session, session.user, unseen, at)
            self._count(state.gauges.auth_failures, event, at, counted)
        for then, points in self._scale.unreported(session, commands, at, state.scope):
            counted += self._count(state.gauges.errors, event, then, points)
        return counted

    # What these share

    def _logged_in(self, state: _Scoped, session: Session, user: str, at: float) -> None:
        """Take back what a session that logs in has counted.

        What was refused to it is a matter for its account; a failed mechanism, or a password
        mistyped, is none of a client that then proves to own the name.

        Args:
            state: its scope.
            session: it.
            user: the name; "" where only the counters of `disconnect` show the login.
            at: now.
        """
        if session.login:
            return
        session.login = True
        for then, points in session.given:
            self._take_back(state.gauges.errors, session.client, then, points)
        for then, count, name in session.excused(user):
            if not proves(user, name) and not self._excuses(session.client, user, count, at):
                continue
            self._take_back(state.gauges.auth_failures, session.client, then, count)
            for gauge in state.gauges.auth_users if name else ():
                for each in {name, family(name)}:
                    gauge.table.remove(session.client, each)
                    gauge.networks.remove(network_of(session.client), each)
        session.given = session.pipelined = session.failures = ()

    def _excuses(self, client: str, user: str, count: int, at: float) -> bool:
        """Tell whether a login excuses failures that may be another account's."""
        return self._excused.add(f"{client} {user.lower()}", at, count) <= _EXCUSES

    def _take_back(self, group: list[CountGauge], client: str, then: float, count: int) -> None:
        """Take back what was counted at a time, against a client and its network."""
        network = network_of(client)
        for gauge in group:
            gauge.table.take_back(client, then, count)
            gauge.networks.take_back(network, then, count)

    def _note_idle(self, client: str, at: float) -> None:
        if self._idle.add(client, at, 1) >= _HEALTH_CHECK:
            self._checks.put(client, client, at)

    def _escaped(self, state: _Scoped, event: Event, at: float) -> None:
        """Note a session of a client that the kernel should not let in."""
        held = state.held.get(event.client)
        if held is not None and held.banned_since + LATE < at < held.banned_until:
            self.escapes.add(event.client, state.scope, event.instance, at)

    def _stream(self, event: Event, log: int) -> _Stream:
        """Return the stream that an event belongs to, made where it is the first."""
        key = (log, event.instance, event.host)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _STREAMS:
                self._streams.clear()
            if self.hosts.see(log, event.host):
                self._assign()
            stream = _Stream(*key, self._state_of(*key))
            self._streams[key] = stream
        return stream

    def _state_of(self, log: int, instance: str, host: str) -> _Scoped | None:
        """Return the state that counts the lines of an instance; None where they do not count."""
        facts = self._facts
        ours = self.hosts.counts(log, host)
        if not ours or facts.proxied(instance):  # who is behind a proxy sends no packets here
            return None
        return self._scopes[facts.scope_of(instance)]

    def _assign(self) -> None:
        """Let the streams know that scopes or facts have changed; their sessions go on."""
        for key, stream in self._streams.items():
            stream.state = self._state_of(*key)

    def _session(self, event: Event, at: float, key: _SessionKey) -> Session:
        session = self._current.sessions.get(key)
        if session is None or session.client != event.client:
            session = Session(event.client, at)
            self._current.sessions.put(key, session, at)
        return session

    def _good(
        self, state: _Scoped, event: Event, at: float, *, deliveries: int, logins: int
    ) -> int:
        if self._noted:
            state.gauges.insist(event.client, at)
        done: tuple[tuple[Kind, int], ...] = ("deliveries", deliveries), ("logins", logins)
        network = network_of(event.client)
        for kind, count in done:
            for table in state.gauges.good[kind].values() if count else ():
                table.add(event.client, at, count)
                if network:
                    table.add(network, at, count)
        known = self._evidence.get(event.client)
        if known is not None:
            deliveries += known.deliveries
            logins += known.logins
        self._evidence[event.client] = Evidence(event.client, event.time, deliveries, logins)
        return 0

    def _count(self, group: list[CountGauge], event: Event, at: float, count: int) -> int:
        """Count against a client and, beside it, against its network.

        What a client does above its own threshold is not added: no single address gets its network
        throttled. But what the network did is judged by that event as by any other, or addresses
        that stay above their own threshold would outlast the throttle of their network.
        """
        if count:
            client = event.client
            network = network_of(client)
            for gauge in group:
                value = gauge.table.add(client, at, count)
                share, banned = count, False
                if value > gauge.least:
                    share = max(0, share - (value - gauge.least))
                    banned = self._weigh(gauge, client, value, at, event)
                if network and (share or not banned):
                    value = gauge.networks.add(network, at, share)
                    if value > gauge.network_least:
                        self._weigh(gauge, network, value, at, event)
        return count

    def _name(self, state: _Scoped, event: Event, at: float) -> None:
        """Count a user name that a client tried."""
        client = event.client
        network = network_of(client)
        name = family(event.user) if event.text == _UNEXPLAINED else event.user
        for gauge in state.gauges.auth_users:
            value = gauge.table.add(client, at, name)
            together = 0
            if value > gauge.least:
                banned = self._weigh(gauge, client, value, at, event)
                together = 0 if banned else gauge.networks.value(network, at)
            elif network:
                together = gauge.networks.add(network, at, name)
            if together > gauge.network_least:
                self._weigh(gauge, network, together, at, event)

    def _weigh(
        self,
        gauge: CountGauge | NameGauge,
        subject: str,
        value: int,
        at: float,
        event: Event,
    ) -> bool:
        """Note a crossing, unless that much is in force, was spared or is noted already.

        A slow throttle counts connections, but each may have 20 tries and last for hours: where a
        limit has a rate of its own, what a client goes on doing above it ends its session.

        Returns:
            Whether the subject is banned already.
        """
        held = self._scopes[gauge.scope].held
        now = max(at, self.now)
        known = held.get(subject)
        if known is not None and now < known.banned_until:
            return True
        plain_soft, plain_hard = gauge.plain(subject)
        pace = gauge.paces[subject is not event.client]
        throttled = known is not None and now < known.throttled_until and known.pace <= pace
        if throttled and value <= plain_hard and not gauge.slow:
            return False
        soft, hard, good = gauge.thresholds(subject, at)
        action: Action = "ban" if value > hard else "throttle"
        threshold, plain = (hard, plain_hard) if action == "ban" else (soft, plain_soft)
        further = throttled and action == "throttle"
        if value <= threshold or (
            not (gauge.slow and subject is event.client)
            if further
            else held.excuses(subject, gauge.limit, action, value, now)
        ):
            return False
        crossing = Crossing(
            subject,
            gauge.scope,
            gauge.limit,
            action,
            value,
            threshold,
            gauge.within,
            "handshakes" if gauge.kernel else gauge.count,
            "" if subject is not event.client else event.name,
            (),
            event.pid,
            event.port,
            plain,
            good,
        )
        key = (subject, gauge.scope, gauge.limit)
        pending = self._pending.get(key)
        if further:
            self._further[subject, gauge.scope, event.pid, event.port] = crossing
        elif pending is None or pending.action != "ban" or action == "ban":
            self._pending[key] = crossing
        return False


def health_check_hint(engine: Engine, client: str, at: float) -> str:
    """Return what to suggest about a client that looks like a health check; "" if it does not."""
    count = engine.health_check(client, at)
    return (
        f"{client} looks like a health check: {count} sessions that did nothing within an hour; "
        f"allowlist it, if it is yours? throttled allow {client}"
        if count
        else ""
    )


def _proxies(facts: Facts) -> Protection | None:
    """Return who may name other clients by XCLIENT; None: nobody.

    Not a proxy on this host: the packets of its clients do come here.
    """
    return Protection(Facts(own=facts.own, xclient=facts.xclient)) if facts.xclient else None


def _named_by_proxy(session: Session | None, event: Event) -> bool:
    """Tell whether a client was named by XCLIENT in another one's session: no line says so."""
    if session is None or not session.proxy or event.kind == "connect":
        return False
    return session.client != event.client


#: What Postfix writes where the authentication server gave no reason, overloaded or not.
_UNEXPLAINED = "(reason unavailable)"
_NONE = (0, 0)
_UNSAID = (1, 1)  # `disconnect` does not tell how many commands there were
