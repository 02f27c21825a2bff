"""What each kind of event does to the counts of its client. Pure: no clock, no I/O.

Owns the good evidence since it was last taken, the failures that logins excused, and the sessions
that look like health checks or get through a ban.
"""

from collections import Counter
from collections.abc import Callable
from itertools import islice

from throttled import subjects
from throttled.address import network_of
from throttled.decide.escapes import LATE, Escapes
from throttled.decide.health_checks import HealthChecks
from throttled.decide.scoped import Scoped
from throttled.decide.session import Scale, Session, failed, family, proves, unnamed
from throttled.decide.shared import SharedAddresses
from throttled.decide.streams import SessionKey, Streams
from throttled.decide.tables import Counters, Generations
from throttled.model import Activity, Event, Evidence, Scope
from throttled.settings import Policy

#: Failed logins that are not provably an account's own, but that logins of a client with that name
#: excuse, and within how many seconds: who has one account must not try others for nothing.
_EXCUSES, _EXCUSE_TIME = 500, 86400.0

#: Messages whose recipients qmgr has not logged yet, and how long they are waited for.
_QUEUED, _QUEUED_TIME = 20_000, 3600.0

_NONE = (0, 0)
_UNSAID = (1, 1)  # `disconnect` does not tell how many commands there were

#: Counts an event; returns whether the line counted against the client.
Action = Callable[[Scoped, Event, float, SessionKey], int]


class Actions:
    """What is done with an event, by its kind."""

    def __init__(self, policy: Policy, streams: Streams, *, peaks: bool) -> None:
        """Begin with no evidence.

        Args:
            policy: points, and how many clients are tracked.
            streams: where sessions are.
            peaks: whether the gauges note the highest that clients reach.
        """
        self.scale = Scale(policy.points)
        self.checks = HealthChecks(policy.max_clients)
        self.shared = SharedAddresses(streams.hosts.facts)
        self.escapes = Escapes()
        self._evidence: dict[str, Evidence] = {}
        self._activity: Counter[Activity] = Counter()
        self.enforcing = False  # whether anything of it is in a kernel
        #: Host names of clients: a handshake does not name them.
        self.names: Generations[str, str] | None = None  # None: not remembered, as in a replay
        #: Who sent a message that qmgr has not logged yet, by queue id, for limits of recipients.
        #: With its scope, and whether it is behind a proxy.
        self.queued: Generations[str, tuple[Event, Scope, bool]] = Generations(
            _QUEUED_TIME, _QUEUED
        )
        self._streams = streams
        self._peaks = peaks
        self._excused = Counters(_EXCUSE_TIME, policy.max_clients)  # by client and user name
        self.of: dict[str, Action] = {
            "connect": self._connect,
            "screened": self._screened,
            "passed": self._passed,
            "disconnect": self._disconnect,
            "auth_failure": self._auth_failure,
            "login": self._login,
            "accepted": self._accepted,
            "tls_failure": self._tls_failure,
            **dict.fromkeys(Scale.kinds(), self._error),
        }

    def remember_names(self, lifetime: float, most: int) -> None:
        """Remember host names of clients for some seconds, at most `most`; those known stay."""
        if self.names is None:
            self.names = Generations(lifetime, most)
        self.names.resize(most)

    def named(self, text: str, most: int) -> list[tuple[str, str]]:
        """Return clients in whose host name a text is, with the name."""
        text = text.casefold()
        known = () if self.names is None else self.names.items()
        return list(islice((item for item in known if text in item[1].casefold()), most))

    def drain(self) -> tuple[list[Evidence], dict[Activity, int]]:
        """Return the good evidence since the last call, and what happened by hour and scope."""
        evidence, self._evidence = self._evidence, {}
        activity, self._activity = self._activity, Counter()
        return list(evidence.values()), activity

    def _connect(self, state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        self._streams.begin(event, at, key)
        if self.names is not None and event.name:
            self.names.put(event.client, event.name, at)
        passed = state.screening and state.handover.get(event.client)
        if passed:
            # One connection, logged by postscreen (CONNECT) and then by smtpd.
            state.handover.put(event.client, passed - 1, at)
            return 0
        return self._screened(state, event, at, key)

    def _screened(self, state: Scoped, event: Event, at: float, _key: SessionKey) -> int:
        if state.behind:
            return state.count(state.gauges.connections, event, at, event.count)
        if self.enforcing:
            self._escaped(state, event, at)
        self._activity[int(event.time) // 3600, state.scope, "session"] += event.count
        return state.count(state.gauges.connections, event, at, event.count)

    def _passed(self, state: Scoped, event: Event, at: float, _key: SessionKey) -> int:
        state.screening = True
        waiting = state.handover.get(event.client) or 0
        state.handover.put(event.client, waiting + event.count, at)
        return 0

    def _error(self, state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        session = self._streams.session(event, at, key)
        if event.kind == "reject" and event.user:
            self._logged_in(state, session, event.user, at)
        before = session.callouts
        points = self.scale.error(session, event, at, state.scope)
        if before == 0 and session.callouts == 1:
            session.callout = at
            return state.count(state.gauges.callouts, event, at, 1)
        if before == 1 and session.callouts > 1:
            state.subtract(state.gauges.callouts, event.client, session.callout, 1)
        return state.count(state.gauges.errors, event, at, points)

    def _auth_failure(self, state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        session = self._streams.session(event, at, key)
        session.auth_lines += event.count
        if event.reason == "temporary":
            session.harmless += event.count
            return 0
        session.errors += event.count
        self.scale.auth_failures(session, event.user, event.count, at)
        return state.fail(event, self._account(event.user), at)

    def _account(self, user: str) -> str:
        """Return the subject of a login name; "" of none."""
        domain = self._streams.hosts.facts.sasl_domain
        return subjects.account_in_log(user, domain) if user else ""

    def _login(self, state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        self._logged_in(state, self._streams.session(event, at, key), event.user, at)
        if not state.behind:
            self.shared.logged_in(event.client, event.user, at)
        self._good(state, event, at, deliveries=0, logins=event.count)
        return self._accepted(state, event, at, key)

    def _accepted(self, state: Scoped, event: Event, at: float, _key: SessionKey) -> int:
        gauges = state.gauges
        if gauges.recipients and event.message is not None:
            self.queued.put(event.message.queue_id, (event, state.scope, state.behind), at)
        return state.count(gauges.messages, event, at, 1) if gauges.messages else 0

    def _tls_failure(self, _state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        self._streams.session(event, at, key).harmless += event.count
        return 0

    def _disconnect(self, state: Scoped, event: Event, at: float, key: SessionKey) -> int:
        session = self._streams.end(event, at, key)
        commands = event.commands
        if commands is None and event.process != "postscreen":
            return 0  # Postfix before 3.0 counts nothing here
        if session.idle(commands):
            self.checks.idle(event.client, at)
        else:
            self.checks.busy(event.client)
        if commands is None:
            return 0
        accepted, total = commands.get("commands", _UNSAID)
        if not total:
            weight = 0 if session.said() else self.scale.empty_session
            return state.count(state.gauges.errors, event, at, weight)
        self._achieved(state, session, event, at)
        if accepted == total:
            return 0
        return self._unreported(state, session, event, at)

    def _achieved(self, state: Scoped, session: Session, event: Event, at: float) -> None:
        """Note what a session that ends accomplished: mail, a login that no line reported."""
        commands = event.commands or {}
        if "data" in commands or "bdat" in commands:
            # A `bdat` is a part of a message, a `data` a whole one.
            deliveries = commands.get("data", _NONE)[0] + min(1, commands.get("bdat", _NONE)[0])
            if deliveries:
                self._good(state, event, at, deliveries=deliveries, logins=0)
                if not (state.behind or session.login or "auth" in commands):
                    self.shared.delivered(event.client, at)
                for then, points in session.pipelined:
                    state.subtract(state.gauges.errors, event.client, then, points)
        if "auth" in commands and commands["auth"][0] and not session.login:
            self._logged_in(state, session, "", at)
            self._good(state, event, at, deliveries=0, logins=1)

    def _unreported(self, state: Scoped, session: Session, event: Event, at: float) -> int:
        """Count what only the counters of `disconnect` report."""
        commands = event.commands or {}
        unseen = failed(commands, "auth") - session.auth_lines
        if session.login:
            counted = unnamed(unseen)
            if unseen > counted and not self._excuses(event.client, "", unseen - counted, at):
                counted = unseen
            return state.count(state.gauges.auth_failures, event, at, counted)
        counted = 0
        if unseen > 0 and not session.denied:
            counted = self.scale.auth_failures(session, session.user, unseen, at)
            state.count(state.gauges.auth_failures, event, at, counted)
        for then, points in self.scale.unreported(session, commands, at, state.scope):
            counted += state.count(state.gauges.errors, event, then, points)
        return counted

    def _logged_in(self, state: Scoped, session: Session, user: str, at: float) -> None:
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
            state.subtract(state.gauges.errors, session.client, then, points)
        for then, count, name in session.excused(user):
            if not proves(user, name) and not self._excuses(session.client, user, count, at):
                continue
            state.subtract(state.gauges.auth_failures, session.client, then, count)
            for gauge in state.gauges.auth_users if name else ():
                for each in {state.key(name), state.key(family(name))}:
                    gauge.table.remove(session.client, each)
                    gauge.networks.remove(network_of(session.client), each)
        session.given = session.pipelined = session.failures = ()

    def _excuses(self, client: str, user: str, count: int, at: float) -> bool:
        """Return whether a login excuses failures that may be another account's."""
        return self._excused.add(f"{client} {user.lower()}", at, count) <= _EXCUSES

    def _escaped(self, state: Scoped, event: Event, at: float) -> None:
        """Note a session of a client that the kernel should not let in."""
        for banned in (event.client, network_of(event.client)):
            current = state.active.get(banned)
            if current is not None and current.banned_since + LATE < at < current.banned_until:
                self.escapes.add(event.client, state.scope, banned, event.instance, at)
                break

    def _good(
        self, state: Scoped, event: Event, at: float, *, deliveries: int, logins: int
    ) -> None:
        if self._peaks and not state.behind:
            state.gauges.add_good_peaks(event.client, at)
        state.good(event.client, at, deliveries, logins)
        if logins:
            state.guessing.logged_in(self._account(event.user), event.client, at)
            state.acquit(event.client)
        if state.behind:
            return
        hour = int(event.time) // 3600
        if deliveries:
            self._activity[hour, state.scope, "delivery"] += deliveries
        else:
            self._activity[hour, state.scope, "login"] += logins
        known = self._evidence.get(event.client)
        if known is not None:
            deliveries += known.deliveries
            logins += known.logins
        self._evidence[event.client] = Evidence(event.client, event.time, deliveries, logins)
