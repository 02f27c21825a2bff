"""The logs' streams and the sessions in them. Pure: no clock, no I/O.

A stream is the lines of one log that one instance of Postfix on one host wrote; it has the sessions
of that instance, and the scope in which they count. Owns both, and what other hosts' lines were.
"""

from throttled.decide.hosts import Hosts
from throttled.decide.protect import PROXY, Protection
from throttled.decide.scoped import Scoped
from throttled.decide.session import Session
from throttled.decide.tables import Generations
from throttled.facts import Facts
from throttled.model import Event, Scope

#: Sessions known at once in a stream; Postfix runs some hundred smtpd. At the cap those silent the
#: longest are evicted: their `disconnect` may then count again what their lines had said.
_SESSIONS = 20_000
_SESSION_TIME = 3600.0
#: Streams known; a host has a handful, a forger any number.
_STREAMS = 100

#: A pid; of postscreen, which serves many at once, the client and its port.
SessionKey = int | tuple[str, int]


class Stream:
    """The lines of one log that one instance of Postfix on one host wrote, and its sessions."""

    def __init__(self, log: int, instance: str, host: str) -> None:
        self.log = log
        self.instance = instance
        self.host = host
        self.state: Scoped | None = None  # None for another host's
        #: Of who is named by XCLIENT; None where nobody may, and for another host's.
        self.behind: Scoped | None = None
        self.ours = True  # whether the lines of its host count
        self.sessions: Generations[SessionKey, Session] = Generations(_SESSION_TIME, _SESSIONS)


class Streams:
    """All streams, and the one of the latest event."""

    def __init__(
        self, facts: Facts, scopes: dict[Scope, Scoped], behind: dict[Scope, Scoped]
    ) -> None:
        """Begin with none.

        Args:
            facts: what is so on this host.
            scopes: the state of each.
            behind: the same for clients behind a proxy.
        """
        self.hosts = Hosts(facts)
        self.current = Stream(-1, "", "")  # of the latest event
        self._streams: dict[tuple[int, str, str], Stream] = {}
        self._facts = facts
        self._scopes, self._behind = scopes, behind
        self._proxies = _proxies(facts)

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self._facts = self.hosts.facts = facts
        self._proxies = _proxies(facts)
        self._assign()

    def scopes(self, scopes: dict[Scope, Scoped], behind: dict[Scope, Scoped]) -> None:
        """Count in other states from now on; sessions continue."""
        self._scopes, self._behind = scopes, behind
        self._assign()

    def of(self, event: Event, log: int) -> Stream:
        """Return the stream that an event belongs to, made where it is the first."""
        stream = self.current
        # Mostly the same again, and mostly the same objects, which are compared at once.
        if stream.instance != event.instance or stream.host != event.host or stream.log != log:
            stream = self.current = self._of(event, log)
        return stream

    def foreign(self, event: Event, key: SessionKey) -> bool:
        """Return whether a client was named by XCLIENT in another's session: no line says so."""
        if event.kind == "connect":
            return False
        session = self.current.sessions.get(key)
        if session is None or not session.proxy:
            return False
        return session.named or session.client != event.client

    def begin(self, event: Event, at: float, key: SessionKey) -> None:
        """Begin a session in the current stream."""
        session = Session(event.client, at)
        self.current.sessions.put(key, session, at)
        if self._proxies is not None and self._proxies.reason(event.client) == PROXY:
            session.proxy = True

    def session(self, event: Event, at: float, key: SessionKey) -> Session:
        """Return the session of an event in the current stream, made where it is the first."""
        known = session = self.current.sessions.get(key)
        if session is None or session.client != event.client:
            session = Session(event.client, at)
            session.proxy = session.named = known is not None and known.proxy
            self.current.sessions.put(key, session, at)
        return session

    def end(self, event: Event, at: float, key: SessionKey) -> Session:
        """End a session in the current stream, and return it."""
        session = self.current.sessions.pop(key)
        if session is None or session.client != event.client:  # lines were lost: another one's
            session = Session(event.client, at)
        return session

    def sessions(self, client: str) -> int:
        """Return how many sessions a client has open."""
        return sum(
            session.client == client
            for stream in self._streams.values()
            for session in stream.sessions.values()
        )

    def sizes(self) -> tuple[int, int]:
        """Return how many sessions are tracked, and how many fell to the cap."""
        tables = [stream.sessions for stream in self._streams.values()]
        return sum(table.size() for table in tables), sum(table.dropped for table in tables)

    def _of(self, event: Event, log: int) -> Stream:
        key = (log, event.instance, event.host)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= _STREAMS:
                self._streams.clear()
            if self.hosts.see(log, event.host):
                self._assign()
            stream = self._streams[key] = Stream(*key)
            self._states(stream)
        return stream

    def _states(self, stream: Stream) -> None:
        """Give a stream the states that count its lines; none where they do not count."""
        stream.ours = self.hosts.counts(stream.log, stream.host)
        stream.state = stream.behind = None
        if stream.ours:
            scope = self._facts.scope_of(stream.instance)
            behind = self._behind[scope]
            stream.behind = None if self._proxies is None else behind
            # Who is behind a proxy sends no packets here.
            proxied = self._facts.proxied(stream.instance)
            stream.state = behind if proxied else self._scopes[scope]

    def _assign(self) -> None:
        """Let the streams know that scopes or facts have changed; their sessions continue."""
        for stream in self._streams.values():
            self._states(stream)


def _proxies(facts: Facts) -> Protection | None:
    """Return who may name other clients by XCLIENT; None: nobody.

    Not a proxy on this host: the packets of its clients do come here.
    """
    return Protection(Facts(own=facts.own, xclient=facts.xclient)) if facts.xclient else None
