"""Counts what clients do and says who crossed a limit. Pure: no clock, no I/O.

`step` takes one event and the time at which it happened (`at`, on the boot clock when live, the
line's own time in a replay). What came of it waits for `take`: crossings, for the ladder to judge
with the client's past, and good evidence, for the store. After judging, `hold` tells the engine
what is in force, so that a client is not judged again by every further line.

Owns the tables, the sessions and the trace. Its memory is bounded by `max_clients` (see
`throttled.decide.tables` for what happens at the cap) and `_SESSIONS`.
"""

from collections.abc import Callable, Iterable
from heapq import nlargest
from itertools import islice
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from throttled.address import is_network, network_of
from throttled.decide.escapes import LATE, Escapes
from throttled.decide.limits import NEVER, Gauge, Gauges, Meter
from throttled.decide.noting import NotingCounters, NotingDistinct
from throttled.decide.protect import PROXY, Protection
from throttled.decide.session import Scale, Session, failed, unnamed
from throttled.decide.tables import Counters, Distinct, Generations
from throttled.decide.trace import Trace
from throttled.model import SCOPES, Action, Crossing, Event, Evidence, Facts, Line, Peak, Scope
from throttled.policy import Count, Policy

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
#: Between PASS of postscreen and `connect` of smtpd for the same connection.
_HANDOVER = 60.0
#: How long it is remembered what is in force, at least. Longer bans are asked of the store again.
_HELD = 86400.0
#: Clients of which each limit notes what they reached, until the store has it.
_NOTED = 20_000
#: Streams known; a host has a handful, a forger any number.
_STREAMS = 100

_RANK: dict[Action, int] = {"throttle": 1, "ban": 2}

#: A pid; of postscreen, which serves many at once, the client and its port.
_SessionKey = int | tuple[str, int]


class Outcome(Struct, frozen=True):
    """What a batch of events came to."""

    crossings: list[Crossing]
    evidence: list[Evidence]


class _Scoped:
    """The state of one scope."""

    def __init__(self, policy: Policy, scope: Scope, noted: int) -> None:
        self.scope = scope
        self.gauges = Gauges.of(policy, scope, noted)
        self.screening = False  # whether there is a postscreen that hands connections over
        self.handover: Generations[str, int] = Generations(_HANDOVER, policy.max_clients)
        #: Rank of what is in force against a client, until when, and since when a ban is in the
        #: kernel; `inf`: it is not.
        self.held: Generations[str, tuple[int, float, float]] = Generations(
            _HELD, policy.max_clients
        )


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
        self._network = policy.network
        self._trace = Trace(_TRACE, policy.max_clients)
        self._pending: dict[tuple[str, Scope], Crossing] = {}
        self._evidence: dict[str, Evidence] = {}
        self._facts = facts
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
        self._facts = facts
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
            self._names = Generations(_HELD, policy.max_clients)
        scopes = {scope: _Scoped(policy, scope, self._noted) for scope in SCOPES}
        for scope, before in self._scopes.items():
            scopes[scope].held = before.held
            scopes[scope].screening = before.screening
            scopes[scope].handover = before.handover
            scopes[scope].gauges.adopt(before.gauges)
        self._scopes = scopes
        self._scale = Scale(policy.points)
        self._network = policy.network
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
    ) -> None:
        """Learn what is in force against a client, so that it is not judged for less before then.

        Args:
            subject: an address.
            scope: where it is in force.
            action: what is in force.
            until: end, on the clock of `at`.
            at: now.
            enforced: the kernel drops its packets: it is a wonder if it comes again.
        """
        self._enforcing |= enforced
        since = at if enforced and action == "ban" else inf
        self._scopes[scope].held.put(subject, (_RANK[action], until, since), at)

    def forget(self, subject: str, scope: Scope | None = None) -> None:
        """Forget what a client did: an operator unbanned it."""
        for state in self._scopes.values():
            if scope in (None, state.scope):
                for gauge in state.gauges.all():
                    gauge.table.pop(subject)
                state.held.pop(subject)
                self.escapes.forget(subject, state.scope)
                self._pending.pop((subject, state.scope), None)
        self._trace.forget(subject)

    def forget_all(self, scope: Scope | None = None) -> None:
        """Forget what all clients did: an operator unbanned everybody. Sessions go on."""
        for state in self._scopes.values():
            if scope in (None, state.scope):
                for gauge in state.gauges.all():
                    gauge.table.clear()
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
        outcome = Outcome(crossings, list(self._evidence.values()))
        self._pending = {}
        self._evidence = {}
        return outcome

    def meters(self, client: str, at: float) -> list[Meter]:
        """Return what a client's meters show, for `explain`; the kernel's if it saw something.

        Of a network only those that count what its addresses do together.
        """
        meters = [gauge.read(client, at) for gauge in self.gauges()]
        if is_network(client):
            soft, hard = self._network.soft, self._network.hard
            return [replace(m, soft=soft * m.hard, hard=hard * m.hard) for m in meters if m.value]
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

    def gauges(self) -> list[Gauge[Counters] | Gauge[Distinct]]:
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
        sessions = [stream.sessions for stream in self._streams.values()]
        return {
            "clients": max((table.size() for table in tables), default=0),
            "sessions": sum(table.size() for table in sessions),
            "dropped": sum(table.dropped for table in [*tables, *sessions]),
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
            self._logged_in(state, session, event.user)
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
            for gauge in state.gauges.auth_users:
                value = gauge.table.add(event.client, at, event.user)
                if value > gauge.soft or value > gauge.hard:
                    verdict = gauge.verdict(value)
                    self._cross(gauge, event.client, verdict, value, at, name=event.name)
        counted = self._scale.auth_failures(session, event.user, event.count, at)
        return self._count(state.gauges.auth_failures, event, at, counted)

    def _login(self, state: _Scoped, event: Event, at: float, key: _SessionKey) -> int:
        self._logged_in(state, self._session(event, at, key), event.user)
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
            self._logged_in(state, session, "")
            self._good(state, event, at, deliveries=0, logins=1)

    def _unreported(self, state: _Scoped, session: Session, event: Event, at: float) -> int:
        """Count what only the counters of `disconnect` report."""
        commands = event.commands or {}
        unseen = failed(commands, "auth") - session.auth_lines
        if session.login:
            return self._count(state.gauges.auth_failures, event, at, unnamed(unseen))
        counted = 0
        if unseen > 0 and not session.denied:
            counted = self._scale.auth_failures(session, session.user, unseen, at)
            self._count(state.gauges.auth_failures, event, at, counted)
        for then, points in self._scale.unreported(session, commands, at, state.scope):
            counted += self._count(state.gauges.errors, event, then, points)
        return counted

    # What these share

    def _logged_in(self, state: _Scoped, session: Session, user: str) -> None:
        """Take back what a session that logs in has counted.

        What was refused to it is a matter for its account; a failed mechanism, or a password
        mistyped, is none of a client that then proves to own the name.

        Args:
            state: its scope.
            session: it.
            user: the name; "" where only the counters of `disconnect` show the login.
        """
        if session.login:
            return
        session.login = True
        for then, points in session.given:
            self._take_back(state.gauges.errors, session.client, then, points)
        for then, count, name in session.excused(user):
            self._take_back(state.gauges.auth_failures, session.client, then, count)
            for gauge in state.gauges.auth_users if name else ():
                gauge.table.remove(session.client, name)
        session.given = session.pipelined = session.failures = ()

    def _take_back(
        self, group: list[Gauge[Counters]], client: str, then: float, count: int
    ) -> None:
        """Take back what was counted at a time, against a client and its network."""
        network = network_of(client)
        for gauge in group:
            gauge.table.take_back(client, then, count)
            if network:
                gauge.table.take_back(network, then, count)

    def _note_idle(self, client: str, at: float) -> None:
        if self._idle.add(client, at, 1) >= _HEALTH_CHECK:
            self._checks.put(client, client, at)

    def _escaped(self, state: _Scoped, event: Event, at: float) -> None:
        """Note a session of a client that the kernel should not let in."""
        held = state.held.get(event.client)
        if held is not None and held[2] + LATE < at < held[1]:
            self.escapes.add(event.client, state.scope, event.instance, at)

    def _stream(self, event: Event, log: int) -> _Stream:
        """Return the stream that an event belongs to, made where it is the first."""
        key = (log, event.instance, event.host)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _STREAMS:
                self._streams.clear()
            stream = _Stream(*key, self._state_of(event.instance, event.host))
            self._streams[key] = stream
        return stream

    def _state_of(self, instance: str, host: str) -> _Scoped | None:
        """Return the state that counts the lines of an instance; None where they do not count."""
        facts = self._facts
        ours = not facts.hostnames or not host or host in facts.hostnames
        if not ours or facts.proxied(instance):  # who is behind a proxy sends no packets here
            return None
        return self._scopes[facts.scope_of(instance)]

    def _assign(self) -> None:
        """Let the streams know that scopes or facts have changed; their sessions go on."""
        for (_log, instance, host), stream in self._streams.items():
            stream.state = self._state_of(instance, host)

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
        known = self._evidence.get(event.client)
        if known is not None:
            deliveries += known.deliveries
            logins += known.logins
        self._evidence[event.client] = Evidence(event.client, event.time, deliveries, logins)
        return 0

    def _count(self, group: list[Gauge[Counters]], event: Event, at: float, count: int) -> int:
        if count:
            for gauge in group:
                value = gauge.table.add(event.client, at, count)
                if value > gauge.soft or value > gauge.hard:
                    verdict = gauge.verdict(value)
                    self._cross(gauge, event.client, verdict, value, at, name=event.name)
            if ":" in event.client:
                self._together(group, event.client, at, count)
        return count

    def _together(self, group: list[Gauge[Counters]], client: str, at: float, count: int) -> None:
        """Count against the /64 of a client too: who has one need use no address twice.

        It crosses a limit where so many addresses, each at its hard limit, would have been banned
        as the network's own thresholds say.
        """
        network = network_of(client)
        for gauge in group:
            if gauge.hard == NEVER or not network:
                continue
            value = Counters.add(gauge.table, network, at, count)  # no client: it is not noted
            soft, hard = self._network.soft * gauge.hard, self._network.hard * gauge.hard
            if value > hard:
                self._cross(gauge, network, ("ban", hard), value, at)
            elif value > soft:
                self._cross(gauge, network, ("throttle", soft), value, at)

    def _cross(  # noqa: PLR0913 - who, by how much, when
        self,
        gauge: Gauge[Counters] | Gauge[Distinct],
        subject: str,
        verdict: tuple[Action, int],
        value: int,
        at: float,
        *,
        name: str = "",
    ) -> None:
        """Note a crossing, unless as much is in force or noted already."""
        action, threshold = verdict
        held = self._scopes[gauge.scope].held.get(subject)
        if held is not None and max(at, self.now) < held[1] and held[0] >= _RANK[action]:
            return
        pending = self._pending.get((subject, gauge.scope))
        if pending is not None and _RANK[pending.action] > _RANK[action]:
            return
        self._pending[subject, gauge.scope] = Crossing(
            subject,
            gauge.scope,
            gauge.limit,
            action,
            value,
            threshold,
            gauge.within,
            "handshakes" if gauge.kernel else gauge.count,
            name,
        )


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


_NONE = (0, 0)
_UNSAID = (1, 1)  # `disconnect` does not tell how many commands there were
