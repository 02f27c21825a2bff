"""The daemon: wires the rooms, and runs the loop.

One thread, one asyncio loop: a readable log, a request, a changed host, a firewall that another
program changed and a timer are all callbacks; longer work (a million stored bans) is done in
pieces between them. A stop leaves elements in the kernel; the next start adopts them.

Owns the store, the pipeline, the logs and the reconciler.
`throttled.operator.answer` answers requests, `throttled.health.findings` returns the findings.
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from throttled import __version__
from throttled.clock import Moment, now
from throttled.config.schema import Config
from throttled.control.protocol import Request, Result
from throttled.control.server import Peer, Server
from throttled.core.leftovers import Leftovers
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.core.reconciler import Reconciler
from throttled.core.reopening import open_or_without, reopen
from throttled.decide.listed import Lists
from throttled.enforce.backend import Backend
from throttled.enforce.registry import answers, choose, with_answers
from throttled.enforce.sockets import connections
from throttled.errors import (
    BackendError,
    ConfigError,
    NotPermittedError,
    StoreError,
    ThrottledError,
)
from throttled.health import bypass
from throttled.health.clients import ClientReporter
from throttled.health.findings import Reporter, failures, findings, summary, worst
from throttled.health.logs import LogReporter
from throttled.health.senders import SenderReporter
from throttled.health.silence import Silence
from throttled.host.on_hold import OnHold
from throttled.host.zone import local_zone
from throttled.linux.systemd import notify
from throttled.metrics.exposition import expose
from throttled.metrics.server import MetricsServer
from throttled.model import Facts, Finding, Mode, Report, Ruleset
from throttled.notify import journal
from throttled.notify.hook import Hook
from throttled.notify.journal import Journal
from throttled.operator.answer import answer
from throttled.operator.audit import Trail
from throttled.operator.desk import Desk, Running
from throttled.operator.fleet import exposed
from throttled.operator.status import status
from throttled.parse.parser import Parser
from throttled.service import last_facts
from throttled.service.announce import (
    Announcer,
    Listener,
    SessionEnder,
    alert,
    report,
    report_behind,
)
from throttled.service.configuration import LiveConfiguration, Options
from throttled.service.first_week import FirstWeek
from throttled.service.fleet import FleetLink
from throttled.service.host_watch import HostWatch
from throttled.service.last_mail import LastMail
from throttled.service.loop_errors import LoopErrors
from throttled.service.overload import Overload
from throttled.service.schedule import Schedule
from throttled.sources import queue_files
from throttled.sources.backlog import Backlog
from throttled.sources.handshakes import Handshakes
from throttled.sources.logs import Logs
from throttled.sources.policy_requests import PolicyRequests
from throttled.store.store import Store

log = logging.getLogger("throttled")

_FACTS = 60.0
#: How often it is tried to open a database that could not be used.
_REOPEN = 2.0


class Daemon:
    """Everything together."""

    def __init__(self, options: Options) -> None:
        """Load the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self.live = LiveConfiguration(options)
        self.started = now()
        self.backend: Backend
        self.pipeline: Pipeline
        self.reconciler: Reconciler
        self.leftovers: Leftovers
        self.protected: Protected
        self.handshakes: Handshakes
        self.requests: PolicyRequests
        self.logs: Logs
        self.maintenance: Maintenance
        self.backlog: Backlog
        self.desk: Desk
        self.store_error: StoreError | None = None
        self.metrics_error: ConfigError | None = None
        self.fleet_error: ConfigError | None = None
        self.host: HostWatch
        self.announcer: Announcer
        self.journal: Journal
        self.schedule: Schedule
        self.fleet: FleetLink | None = None
        self.overload: Overload
        self._reporters: list[Reporter] = []
        self._metrics = MetricsServer(lambda: expose(status(self.desk), exposed(self.desk)))
        self._moves = 0  # of the clock, when the allowlist was read last
        self._shared: Collection[str] = ()  # addresses that stand for many clients, of these
        self.hook = Hook(self.config.notify)
        self.loop_errors = LoopErrors()
        self._trail = Trail(lambda: self.store, now)
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed: ThrottledError | None = None  # at a change of the mode: nothing works now
        self._busy: set[asyncio.Task[Any] | None] = set()  # requests that use the store
        self._reloading = asyncio.Lock()
        self._closing = ExitStack()
        self._keeping: asyncio.Task[Any] | None = None
        self._learning: asyncio.Task[Any] | None = None
        self._displacing: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nodename = os.uname().nodename

    # Start and stop

    async def run(self) -> None:
        """Protect until asked to stop.

        Raises:
            BackendError, NotPermittedError: the firewall cannot be used; says what is missing.
            ThrottledError: the control socket cannot be made.
        """
        asyncio.get_running_loop().set_exception_handler(self.loop_errors)
        self._use(self._open_backend(self.config))
        control = self.config.control
        server = Server(Path(control.socket), control.group, self._answer)
        try:
            # Before anything is touched: two daemons must not share a table and a database.
            await server.start()
        except NotPermittedError as error:
            if self.config.mode != "observe":
                raise
            log.warning("%s; observing without it. %s", error.message, error.hint)
        try:
            with self._closing:
                await self._start()
                notifying = asyncio.create_task(self.hook.run())
                self._closing.callback(notifying.cancel)
                self._ready.set()
                notify(f"READY=1\nSTATUS={self._summary(self.findings())}")
                await self._stop.wait()
                notify("STOPPING=1")
                if self._failed is not None:
                    raise self._failed
                await server.drain()  # what is under way needs the store
                self._end(self._tasks)
        finally:
            await server.stop()

    async def _answer(self, request: Request, peer: Peer) -> Result:
        await self._ready.wait()
        task = asyncio.current_task()
        self._busy.add(task)
        try:
            return await self._trail.handle(request, peer, partial(answer, self.desk))
        finally:
            self._busy.discard(task)

    async def _start(self) -> None:
        """Open what there is to open, protect, and only then look at the log."""
        loop = asyncio.get_running_loop()
        live = self.live
        store, self.store_error = open_or_without(self.config.database())
        if not live.facts.services:
            live.facts = last_facts.load(store)
        live.facts = await asyncio.to_thread(live.gather)
        parser = Parser(local_zone(), now().wall)
        policy = self.config.policy()
        self.pipeline = Pipeline(policy, self.facts, store, self.backend, parser)
        self._closing.callback(self._close_store)
        self.overload = Overload(self.pipeline, observing=self.observing, ready=self._evident)
        self._closing.callback(self.overload.close)
        self._announce()
        self.logs = Logs(self.pipeline, self.announcer, self._report, report_behind)
        self.fleet = self._open_fleet()
        self.handshakes = Handshakes(self.pipeline, self.announcer)
        self.requests = self._open_requests()
        self.maintenance = Maintenance(self.pipeline, now, self.journal.ended)
        self.protected = Protected(self.pipeline, self.announcer, now)
        self.backlog = Backlog(self.pipeline, self.logs, self._named, now)
        self._closing.callback(self.protected.close)
        self.reconciler = Reconciler(self.backend, self.pipeline, self.ruleset)
        self.schedule = self._plan()
        self.desk = self._desk()
        self.protect()
        self.reconciler.start()
        self._closing.callback(self.reconciler.close)
        for number, action in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGHUP, self._reload_soon),
        ):
            loop.add_signal_handler(number, action)
        self.host = HostWatch(live, self._apply_facts)
        self._closing.callback(self.host.close)
        await self._serve_metrics()
        self._closing.callback(self._metrics.stop)
        self.logs.follow(self.config.logs(self.facts))
        if self.store_error is None:
            with suppress(StoreError):  # tried again by the timer
                self.backlog.begin()  # before a line is counted that came after that
        self.handshakes.follow(self.config.sensor, self.facts)
        self.handshakes.start()
        self._closing.callback(self.handshakes.close)
        self._follow_requests()
        self._closing.callback(self.requests.close)
        self._displacing = self._spawn(self._displace())
        self._spawn_loops()
        if self.config.accounts.enabled:
            queue = self.pipeline.senders.queue
            self._spawn(queue_files.learn(queue, self.facts.spools))
        gc.freeze()  # what is here stays: looking through it again and again took 50 ms each time
        log.info(
            "version %s started: backend %s, mode %s",
            __version__,
            self.backend.name,
            self.config.mode,
        )

    def _desk(self) -> Desk:
        """Return what operators' commands work on."""
        running = Running(
            started=self.started,
            reconciler=self.reconciler,
            leftovers=self.leftovers,
            logs=self.logs,
            handshakes=self.handshakes,
            backlog=self.backlog,
            findings=self.findings,
            loop_errors=lambda: self.loop_errors.count,
            announce=lambda decisions, notice: self.announcer(decisions, notice=notice),
            reload=self.reload,
            reach=self.hook.reach,
            test_notify=self.hook.test,
            fleet=lambda: None if self.fleet is None else self.fleet.fleet,
            asked=self.requests.asked_about,
            overload=self.overload.status,
        )
        return Desk(
            pipeline=self.pipeline,
            backend=self.backend,
            protected=self.protected,
            config=lambda: self.config,
            reconfigure=self.apply_configuration,
            clock=now,
            running=running,
            lists=Lists(self.pipeline.ladder),
        )

    def _spawn_loops(self) -> None:
        self._spawn(self.schedule.run())
        self._spawn(self.overload.run())
        if self.fleet is not None:
            self._spawn(self.fleet.run())

    def _open_requests(self) -> PolicyRequests:
        """Return what answers policy requests, also those about clients behind a proxy."""
        asked = answers(self.backend)
        if asked is not None:
            self.pipeline.behind.enforce = asked.clients.apply
        requests = PolicyRequests(
            self.pipeline,
            asked,
            self.announcer,
            self._report,
            lambda asked: self.pipeline.answered(
                connected="data" in asked, recipients="recipient" in asked
            ),
        )
        requests.on_hold = OnHold(self.config.database())
        return requests

    def _open_fleet(self) -> FleetLink | None:
        """Return the connection to the fleet; None: off, or its files cannot be used."""
        self.fleet_error = None
        if not self.config.fleet.site:
            return None
        try:
            link = FleetLink(self.config.fleet, self.pipeline, self.logs, self.announcer)
        except ConfigError as error:
            log.error("no fleet: %s. %s", error.message, error.hint)
            self.fleet_error = error
            return None
        self.announcer.first(link)
        return link

    def _evident(self) -> bool:
        """Return whether the database is open, and has the evidence of existing logs."""
        return self.store_error is None and self.backlog.done

    async def _serve_metrics(self) -> None:
        """Serve the metrics where the configuration says; protecting continues without them."""
        self.metrics_error = None
        try:
            await self._metrics.serve(self.config.metrics.listen)
        except ConfigError as error:
            log.warning("%s. %s", error.message, error.hint)
            self.metrics_error = error

    @property
    def observing(self) -> bool:
        """Whether decisions are taken and recorded, but never put into a kernel."""
        return not self.backend.enforces

    @property
    def config(self) -> Config:
        """The configuration that holds now."""
        return self.live.config

    @property
    def facts(self) -> Facts:
        """What is so on this host now."""
        return self.live.facts

    @property
    def store(self) -> Store:
        """What is remembered: the file, or memory where that cannot be used."""
        return self.pipeline.recorder.store

    def _close_store(self) -> None:
        self.store.close()

    def stop(self) -> None:
        """End `run`, as SIGTERM does."""
        self._stop.set()

    def _use(self, backend: Backend) -> None:
        self.backend = backend
        self.leftovers = Leftovers(backend)
        self.hook.would = self.observing

    @staticmethod
    def _open_backend(config: Config) -> Backend:
        firewall = config.firewall
        chosen = choose(firewall.backend, firewall.xdp_mode, observing=config.observing)
        backend = with_answers(chosen)
        errors = [finding for finding in backend.check() if finding.state == "fault"]
        if errors:
            hint = errors[0].hint or "to decide and log without a firewall: --mode observe"
            error = NotPermittedError if os.geteuid() else BackendError
            raise error("; ".join(finding.what for finding in errors), hint)
        return backend

    async def _displace(self) -> None:
        """Remove what another backend left, once this one enforces all that is stored."""
        if self.observing or (self.store_error is None and await self.reconciler.begun()):
            await self.leftovers.remove(now().boot)

    def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Stop looking; leave what is active."""
        with suppress(StoreError):
            self.logs.record()  # what is read again is not added to the days again
            self.maintenance.keep_days()
            sum(self.maintenance.keep_peaks())
        for task in tasks:
            task.cancel()
        self.logs.close()
        if self.config.firewall.on_stop == "remove":
            self.backend.teardown()

    # The host

    def protect(self) -> None:
        """Make the protection anew: from facts, configuration and allowlist."""
        self._shared = self.pipeline.engine.shared.found().keys()
        protection = self.live.protection(self.store, now().wall, self._shared)
        self.pipeline.reconfigure(self.config.policy(), protection)
        self.pipeline.engine.facts(self._named())
        self.pipeline.senders.facts(self.facts)
        self.protected.follow(protection)
        self.overload.follow(self.config, self.facts, protection)

    def _named(self) -> Facts:
        return self.live.named(self.store)

    def ruleset(self) -> Ruleset:
        """Return the static rules that belong to the configuration and the host."""
        return self.live.ruleset(self.pipeline.ladder.protection, self._stored())

    def _stored(self) -> int:
        """Return how many elements should be active; 0 where the store does not say."""
        try:
            return sum(self.store.counts(now().wall).values())
        except StoreError:
            return 0

    def _apply_facts(self, facts: Facts) -> None:
        if facts == self.facts:
            self.host.follow()  # a directory may have been replaced
            if self.backend.at_interfaces:
                self.reconciler.reconfigure()  # it is at interfaces without an address too
            if self.logs.unopened:
                self.logs.follow(self.config.logs(facts))
            return
        log.info("addresses, routes or Postfix's configuration changed; applying the changes")
        self.live.facts = facts
        self.apply_configuration()

    def apply_configuration(self) -> None:
        """Take changed facts, configuration or allowlist; what is active stays."""
        self.host.follow()
        self.protect()
        self.reconciler.reconfigure()
        self.logs.follow(self.config.logs(self.facts))
        self.handshakes.follow(self.config.sensor, self.facts)
        self._follow_requests()

    def _follow_requests(self) -> None:
        """Answer policy requests as the configuration and the facts say."""
        self.requests.hold = self.config.accounts.hold
        self.requests.follow(self.facts)

    def _reload_soon(self) -> None:
        self._spawn(self.reload())

    async def reload(self) -> str:
        """Read the configuration again; a bad one changes nothing. Return the message.

        Raises:
            ConfigError: the file cannot be used; the old configuration stays.
            BackendError, NotPermittedError: nor can the firewall, for enforcing.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> str:
        notify("RELOADING=1")
        try:
            config, kept = self.live.reload()
        finally:
            notify("READY=1")
        if config.observing != self.config.observing:
            await self._switch(config)
        else:
            self.live.config = config
            self.live.facts = await asyncio.to_thread(self.live.gather)
            self.apply_configuration()
            await self._serve_metrics()
        self.live.error = None
        self.hook.settings = config.notify
        message = f"reloaded; needs a restart: {', '.join(kept)}" if kept else "reloaded"
        log.info(message)
        return message

    async def _switch(self, config: Config) -> None:
        """Begin or end observing: as a restart, but requests wait and notifications continue.

        Each mode has its own database: what was only observed is never enforced. The entries of an
        enforcing daemon are removed as at a start.

        Raises:
            BackendError, NotPermittedError: the firewall cannot be used; nothing changed.
        """
        backend = self._open_backend(config)
        self._ready.clear()
        this = asyncio.current_task()
        if others := self._busy - {this}:
            await asyncio.wait([task for task in others if task is not None], timeout=1)
        if self.observing and self._displacing is not None:
            await asyncio.wait({self._displacing})  # it must not remove what comes next
        tasks = self._tasks - {this}
        self._end(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._closing.close()
        self.live.config = config
        self._use(backend)
        gc.unfreeze()
        try:
            await self._start()
        except ThrottledError as error:
            self._failed = error
            self.stop()
            raise
        if self._displacing is not None and self.observing:
            await asyncio.wait({self._displacing})
        self._ready.set()

    # What follows a decision

    def _announce(self) -> None:
        """Set up what is called with decisions."""
        self.journal = Journal(lambda: now().boot, would=self.observing)
        single: list[Listener] = [self.journal, alert, self.hook.decided]
        ender = SessionEnder(self.pipeline, self.live.ports)
        self._closing.callback(ender.close)
        always = (self.overload,) if self.observing else (ender, self.overload)
        self.announcer = Announcer(single, (self.journal.bulk,), always)

    def _report(self, reports: Sequence[Report]) -> None:
        """Say which senders crossed a limit."""
        report(reports)
        self.hook.reported(reports)

    # What is wrong

    def _watch_health(self) -> Silence:
        """Say who reports what is wrong."""
        pipeline, silence = self.pipeline, Silence(self._events, self._connections)
        self._reporters = [
            self._errors,
            LogReporter(self.logs, pipeline),
            silence.findings,
            self.reconciler.findings,
            lambda _: self.handshakes.findings(),
            lambda _: self.requests.findings(),
            lambda at: bypass.findings(pipeline, self.backend, self.facts, self.ruleset, at),
            ClientReporter(pipeline),
            SenderReporter(pipeline),
            self.overload.findings,
            lambda at: () if self.fleet is None else self.fleet.findings(at),
            self._warnings,
        ]
        return silence

    def findings(self) -> list[Finding]:
        """Return what is wrong; nothing when all is well."""
        return findings(self._reporters, self.pipeline.skipped, now().boot)

    def _errors(self, _at: float) -> Iterator[Finding]:
        recorder = self.pipeline.recorder
        errors = {
            "store-unusable": self.store_error,
            "store-unwritten": recorder.error,
            "store-unread": recorder.unread or self.maintenance.error,
            "firewall": self.pipeline.enforcer.error,
        }
        yield from failures("fault", errors)
        if self.leftovers.finding is not None:
            yield self.leftovers.finding
        if not any(self.live.ports().values()):
            what = "no SMTP port of Postfix is known: no port is filtered"
            hint = "correct Postfix's configuration (see: postconf -M), or set [firewall] ports"
            yield Finding("fault", what, hint, "no-ports")

    def _warnings(self, _at: float) -> Iterator[Finding]:
        if self.hook.finding:
            yield self.hook.finding
        errors = {
            "config": self.live.error,
            "metrics": self.metrics_error,
            "fleet": self.fleet_error,
        }
        yield from failures("warning", errors)
        for what in self.facts.warnings:
            yield Finding("warning", what, "see: throttled check", "host")

    def _summary(self, wrong: Sequence[Finding]) -> str:
        if wrong:
            return worst(wrong)
        try:
            counts = self.store.counts(now().wall)
        except StoreError as error:
            return f"error: {error.message}"
        return summary(counts, observing=self.observing)

    def _events(self) -> int:
        """Return how many events were logged: what the sensor counted is not of the log."""
        events = self.pipeline.counts.events
        ignored = self.pipeline.engine.hosts.total()  # another host's say nothing of this one
        return sum(events.values()) - events.get("handshake", 0) - ignored

    def _connections(self) -> set[bytes]:
        return connections({service.port for service in self.facts.services})

    # The schedule

    def _plan(self) -> Schedule:
        """Say what is done again and again."""
        silence = self._watch_health()
        last_mail = LastMail(self.hook)
        last_mail.load(self.store, now())
        schedule = Schedule(self.pipeline.skipped, now)
        for seconds, job in (
            (0, self.logs.tick),
            (0, self.requests.tick),
            (0, lambda moment: silence.tick(moment.boot)),
            (0, lambda _: self.logs.record()),
            (0, self._keep_kernel),
            (_REOPEN, self._reopen),
            (0, self._allowlist),
            (0, self._check_name),
            (_FACTS, self._check_host),
            (0, self._start_tasks),
            (0, self._report_health),
            (0, lambda moment: last_mail.tick(self.store, moment)),
        ):
            schedule.every(seconds, job)
        if self.observing:
            first_week = FirstWeek(self.config.database(), self.hook.mail)
            schedule.every(0, lambda moment: self._first_week(first_week, moment))
        return schedule

    def _first_week(self, first_week: FirstWeek, moment: Moment) -> None:
        """Report what would have been done, once a day and a week of observing are over."""
        if self.store_error is None and (length := first_week.due(self.store, moment)):
            self._spawn(first_week.report(length, moment))

    def _report_health(self, _moment: Moment) -> None:
        """Report the state to the hook and the service manager; without that we are restarted."""
        notify("WATCHDOG=1")  # the loop turns, whatever becomes of what follows
        wrong = self.findings()
        notify(f"STATUS={self._summary(wrong)}")
        self.hook.health(wrong)

    def _keep_kernel(self, moment: Moment) -> None:
        if self.maintenance.steady(moment) or self.pipeline.recorder.error is not None:
            self.reconciler.tick(moment)

    def _allowlist(self, moment: Moment) -> None:
        due = self.live.ended(moment.wall) or self.maintenance.moves != self._moves
        due |= self.pipeline.engine.shared.found().keys() != self._shared
        # Where the clock is not steady, the ends are about to move with it.
        if due and self.maintenance.steady(moment):
            self._moves = self.maintenance.moves
            self.apply_configuration()

    def _check_name(self, _moment: Moment) -> None:
        """Ask for the facts again when this host has another name."""
        if (name := os.uname().nodename) != self._nodename:
            self._nodename = name
            self.host.ask_soon()

    def _check_host(self, _moment: Moment) -> None:
        if self.live.outdated() or not self.logs.followers or self.logs.unopened:
            self.host.ask_soon()

    def _start_tasks(self, moment: Moment) -> None:
        """Begin again what takes long and is not under way."""
        self.protected.tick()
        if self.leftovers.due(moment.boot):
            self._spawn(self.leftovers.remove(moment.boot))
        if self._keeping is None or self._keeping.done():
            self._keeping = self._spawn(self.maintenance.run())
        idle = self._learning is None or self._learning.done()
        if idle and not self.backlog.done and self.store_error is None:
            self._learning = self._spawn(self.backlog.run())

    def _reopen(self, moment: Moment) -> None:
        """Use the database's file as soon as that can be, or the one that is there now."""
        if self.store_error is None and self.pipeline.recorder.error is None:
            return
        if self.store_error is None and not self.store.gone():
            return  # it is the right one, and is tried again every second
        try:
            reopen(self.pipeline, self.config.database(), moment)
        except StoreError as error:
            if self.store_error is not None:
                self.store_error = error
            return
        self.store_error = None
        self.protected.again()
        self.apply_configuration()
        self.reconciler.compare()

    # Helpers

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def run(config: str | None, backend: str | None, mode: Mode | None, level: str = "info") -> int:
    """Run the daemon in the foreground until it is asked to stop.

    Args:
        config: the file named on the command line, or None.
        backend: instead of the file's.
        mode: instead of the file's.
        level: of what is logged, see `journal.LEVELS`.

    Raises:
        ThrottledError: it cannot start.
    """
    journal.set_up(level)
    asyncio.run(Daemon(Options(config, backend, mode)).run())
    return 0
