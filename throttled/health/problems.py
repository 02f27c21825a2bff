"""What is wrong, as `status`, metrics, the hook and the service's status line tell it.

Each problem has a `key` that stays the same while it lasts and says which kind it is: lower-case
words, for problems of one log followed by `:` and its path. No client-written text is in a key.
`docs/monitoring.md` lists them. Each goes away when it is over; what only happened, like lines that
were lost, ten minutes after it happened last.

Owns when that was, and what `throttled.health.silence` compares.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from throttled.clock import now
from throttled.enforce.sockets import connections
from throttled.errors import StoreError
from throttled.health import bypass
from throttled.health.silence import Silence
from throttled.model import Problem

if TYPE_CHECKING:
    from throttled.service.daemon import Daemon

#: What only happened is told for so many seconds.
_TOLD = 600.0
#: A log that has not been read to its end for so many seconds lags.
_BEHIND = 5.0
#: A log in which this host comes second is given so many events, or `_BEHIND` seconds.
_STRANGERS = 10
#: Names of other hosts that are shown.
_HOSTS = 5


class Growth(Struct):
    """A count that should not grow, and when it did last."""

    value: int = 0
    at: float = -inf  # boot clock

    def lately(self, value: int, at: float) -> bool:
        """Take the count; tell whether it grew lately."""
        if value > self.value:
            self.at = at
        self.value = value
        return at - self.at < _TOLD


class Health:
    """What is wrong with a daemon that has started."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        self._growths: dict[str, Growth] = {}
        self._others: dict[str, float] = {}  # since when a log has had events of other hosts only
        self._silence = Silence(self._events, self._connections)

    def tick(self) -> None:
        """Look at what takes time to be seen; once a second."""
        self._silence.tick(now().boot)

    def problems(self) -> list[Problem]:
        """Return what is wrong; nothing when all is well. A probe that raises hides no other."""
        at = now().boot
        found: list[Problem] = []
        probes = (
            self._faults,
            self._logs,
            self._silence.problems,
            self._daemon.guard.problems,
            self._sensor,
            self._bypass,
            self._health_checks,
            self._settings,
            self._caps,
        )
        skipped = self._daemon.pipeline.skipped
        skipped.run("probe", probes, lambda probe: found.extend(probe(at)))
        return found

    def _faults(self, _at: float) -> Iterator[Problem]:
        daemon, pipeline = self._daemon, self._daemon.pipeline
        for key, error in (
            ("store-unusable", daemon.store_problem),
            ("store-unwritten", pipeline.recorder.fault),
            ("store-unread", pipeline.recorder.unread or daemon.upkeep.fault),
            ("firewall", pipeline.enforcer.fault),
        ):
            if error is not None:
                yield Problem("fault", error.message, error.hint, key)
        if daemon.leftovers.problem is not None:
            yield daemon.leftovers.problem
        if not any(daemon.ports().values()):
            what = "no port of Postfix is known: none is protected"
            hint = "correct Postfix's configuration (see: postconf -M), or set [firewall] ports"
            yield Problem("fault", what, hint, "no-ports")

    def _sensor(self, _at: float) -> list[Problem]:
        return self._daemon.handshakes.problems()

    def _bypass(self, at: float) -> Iterable[Problem]:
        daemon = self._daemon
        return bypass.problems(daemon.pipeline, daemon.backend, daemon.facts, daemon.ruleset, at)

    def _settings(self, _at: float) -> Iterator[Problem]:
        daemon = self._daemon
        if daemon.hook.problem:
            yield daemon.hook.problem
        for key, error in (("config", daemon.config_problem), ("metrics", daemon.metrics_problem)):
            if error is not None:
                yield Problem("warning", error.message, error.hint, key)
        for what in daemon.facts.warnings:
            yield Problem("warning", what, "see: throttled check", "host")

    def _caps(self, at: float) -> Iterator[Problem]:
        pipeline = self._daemon.pipeline
        forgotten = pipeline.engine.sizes()["dropped"]
        if self._grew("clients-full", forgotten, at):
            what = f"more clients than are tracked: {forgotten:,} counters forgotten early"
            hint = "bans go on; who comes seldom is missed: raise max_clients if there is memory"
            yield Problem("warning", what, hint, "clients-full")
        skipped = pipeline.skipped_by_kind()
        if self._grew("skipped", sum(skipped.values()), at):
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped.items()))
            what = f"skipped because of unexpected errors since the start: {counts}"
            hint = "the rest goes on; the journal says where: please report it"
            yield Problem("warning", what, hint, "skipped")

    def summary(self, wrong: Sequence[Problem]) -> str:
        """Return one line for `systemctl status`: the worst of what is wrong, or all in force.

        Args:
            wrong: what `problems` returned.
        """
        if wrong:
            first = next((p for p in wrong if p.state == "fault"), wrong[0])
            more = f" (and {len(wrong) - 1} more: throttled status)" if len(wrong) > 1 else ""
            # A syslog tag, which a local user may write, can be in it; systemctl shows it as it is.
            told = f"{first.state}: {first.what}{more}"
            return "".join(char if char.isprintable() else " " for char in told)
        try:
            counts = self._daemon.store.counts(now().wall)
        except StoreError as error:
            return f"fault: {error.message}"
        banned, throttled = (
            sum(count for (_, action), count in counts.items() if action == wanted)
            for wanted in ("ban", "throttle")
        )
        if self._daemon.observing:
            return f"ok, observing: would ban {banned}, would throttle {throttled}"
        return f"ok, {banned} banned, {throttled} throttled"

    def _logs(self, at: float) -> Iterator[Problem]:
        logs = self._daemon.logs
        unread = logs.unopened | {f.path: p[0] for f in logs.followers if (p := f.problems())}
        for path, what in unread.items():
            yield Problem("fault", what, "see: throttled check", f"log-unread:{path}")
        if not logs.followers:
            hint = "name the log in [log] files, or set maillog_file in Postfix's main.cf"
            yield Problem("fault", "no log is followed: nothing can be seen", hint, "no-log")
        others = self._daemon.pipeline.engine.hosts.others()
        for follower in logs.followers:
            path, state = follower.path, follower.tail.state()
            if follower.behind and at - follower.behind > _BEHIND:
                what = f"{path}: not read to its end for {at - follower.behind:.0f} s"
                what += f", {state.lag:,} bytes to go" if state.lag else ""
                hint = "more is written than can be read: is the CPU taken by others?"
                yield Problem("warning", what, hint, f"log-lag:{path}")
            ignored = others.get(follower.number, {})
            if ignored and (
                sum(ignored.values()) >= _STRANGERS
                or at - self._others.setdefault(path, at) >= _BEHIND
            ):
                yield _others(path, ignored)
            if self._grew(f"log-gap:{path}", state.gaps, at):
                what = f"{path}: rotated and gone or damaged before it was read, {state.gaps} times"
                hint = "let logrotate keep rotated logs for a day, in the same directory"
                yield Problem("warning", what, hint, f"log-gap:{path}")
        lost = self._daemon.pipeline.counts.lines_lost
        if self._grew("lines-lost", lost, at):
            what = f"the logger lost {lost:,} lines: who wrote them was not counted"
            hint = "raise its rate limit: RateLimitBurst= in journald.conf, imuxsock's in rsyslog's"
            yield Problem("warning", what, hint, "lines-lost")

    def _health_checks(self, at: float) -> Iterator[Problem]:
        pipeline = self._daemon.pipeline
        reason = pipeline.ladder.protection.reason
        clients = [c for c in pipeline.engine.checks.clients(at) if not reason(c)]
        if clients:
            what, _, hint = pipeline.engine.checks.hint(clients[0], at).partition("; ")
            more = f" (and {len(clients) - 1} more clients)" if len(clients) > 1 else ""
            yield Problem("warning", f"{what}{more}", hint, "health-check")

    def _grew(self, key: str, value: int, at: float) -> bool:
        return self._growths.setdefault(key, Growth()).lately(value, at)

    def _events(self) -> int:
        """Return how many events were logged: what the sensor counted is not of the log."""
        pipeline = self._daemon.pipeline
        events = pipeline.counts.events
        ignored = pipeline.engine.hosts.total()  # another host's say nothing of this one
        return sum(events.values()) - events.get("handshake", 0) - ignored

    def _connections(self) -> set[bytes]:
        return connections({service.port for service in self._daemon.facts.services})


def _others(path: str, ignored: Mapping[str, int]) -> Problem:
    """Say that no line of a log counts, as they are of other hosts, the first of which named."""
    names = ", ".join(list(ignored)[:_HOSTS])
    count = sum(ignored.values())
    what = f"{path}: all {count:,} events are of other hosts and do not count: {names}"
    first = next(iter(ignored))
    hint = f'if that is this host: throttled check, or [postfix] hosts = ["{first}"]'
    return Problem("fault", what, hint, f"other-host:{path}")
