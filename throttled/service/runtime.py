"""The parts of the daemon from a start to a stop or a change of the mode: wiring and schedule.

Connects the rooms: what each part calls is passed to it here, and none gets the runtime. Owns the
parts, and the tasks that run beside them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from throttled.clock import Moment, booted, now
from throttled.core.leftovers import Leftovers
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.core.reconciler import Reconciler
from throttled.core.reopening import StoreFile
from throttled.decide.listed import Lists
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.registry import answers
from throttled.enforce.sockets import connections
from throttled.errors import StoreError
from throttled.health import bypass
from throttled.health.clients import ClientReporter
from throttled.health.enforcement import EnforcementReporter
from throttled.health.findings import Reporter, failures
from throttled.health.logs import LogReporter
from throttled.health.senders import SenderReporter
from throttled.health.silence import Silence, logged
from throttled.host.on_hold import OnHold
from throttled.host.zone import local_zone
from throttled.metrics.server import MetricsServer
from throttled.model import Finding, Report
from throttled.notify.hook import Hook
from throttled.notify.journal import Journal
from throttled.operator.desk import Desk, Running
from throttled.operator.fleet import exposed
from throttled.operator.status import status
from throttled.parse.parser import Parser
from throttled.service.announce import (
    Announcer,
    Listener,
    SessionEnder,
    alert,
    report,
    report_behind,
)
from throttled.service.configuration import LiveConfiguration
from throttled.service.configurator import Configurator
from throttled.service.first_week import FirstWeek, end_observing
from throttled.service.fleet import open_link
from throttled.service.health import Health
from throttled.service.last_mail import LastMail
from throttled.service.loop_errors import LoopErrors
from throttled.service.overload import Overload
from throttled.service.schedule import Schedule
from throttled.service.tasks import Tasks
from throttled.sources import queue_files
from throttled.sources.backlog import Backlog
from throttled.sources.handshakes import Handshakes
from throttled.sources.logs import Logs
from throttled.sources.policy_requests import PolicyRequests
from throttled.store.store import Store

_FACTS = 60.0
#: How often it is tried to open a database that could not be used.
_REOPEN = 2.0


class Runtime:
    """All parts, connected; nothing runs before `start`."""

    def __init__(  # noqa: PLR0913 - what lives longer than this
        self,
        live: LiveConfiguration,
        backend: Backend,
        file: StoreFile,
        store: Store,
        hook: Hook,
        *,
        loop_errors: LoopErrors,
        started: Moment,
        reload: Callable[[], Awaitable[str]],
    ) -> None:
        """Make the parts.

        Args:
            live: the configuration; its facts are gathered.
            backend: can be used.
            file: of the store.
            store: the file's, or one in memory.
            hook: notifications.
            loop_errors: their number is part of the status.
            started: when the daemon was.
            reload: reads the configuration again, and returns a message.
        """
        self.live = live
        self.backend = backend
        self.file = file
        self.hook = hook
        hook.would = self.observing
        self._closing = ExitStack()
        self._closing.callback(self._close_store)
        self._tasks = Tasks()
        parser = Parser(local_zone(), now().wall)
        self.pipeline = Pipeline(live.config.policy(), live.facts, store, backend, parser)
        self.overload = Overload(self.pipeline, observing=self.observing, ready=self._evident)
        self._closing.callback(self.overload.close)
        self.journal = Journal(lambda: now().boot, would=self.observing)
        self.announcer = self._announcer()
        self.logs = Logs(self.pipeline, self.announcer, self._report, report_behind)
        self.fleet, self.fleet_error = open_link(
            live.config.fleet, self.pipeline, self.logs, self.announcer
        )
        self.handshakes = Handshakes(self.pipeline, self.announcer)
        self.requests = self._requests()
        self.maintenance = Maintenance(self.pipeline, now, self.journal.ended, booted())
        self.protected = Protected(self.pipeline, self.announcer, now)
        self._closing.callback(self.protected.close)
        self.backlog = Backlog(self.pipeline, self.logs, lambda: live.named(self.store), now)
        self.reconciler = Reconciler(backend, self.pipeline, self.ruleset)
        self._closing.callback(self.reconciler.close)
        self.leftovers = Leftovers(backend)
        self.configurator = Configurator(
            live,
            self.pipeline,
            self.maintenance,
            self.protected,
            self.overload,
            self.reconciler,
            self.logs,
            self.handshakes,
            self.requests,
        )
        self._closing.callback(self.configurator.close)
        self.metrics = MetricsServer(self._expose)
        self._closing.callback(self.metrics.stop)
        self._closing.callback(self.handshakes.close)
        self._closing.callback(self.requests.close)
        self._silence = Silence(
            partial(logged, self.pipeline),
            lambda: connections({service.port for service in live.facts.services}),
        )
        self.health = Health(self._reporters(), self.pipeline, hook, observing=self.observing)
        self.desk = self._desk(loop_errors, started, reload)
        self._schedule = self._plan()

    @property
    def observing(self) -> bool:
        """Whether decisions are made and recorded, but never put into a kernel."""
        return not self.backend.enforces

    @property
    def store(self) -> Store:
        """The store: the file, or memory where that cannot be used."""
        return self.pipeline.recorder.store

    def ruleset(self) -> Ruleset:
        """Return the static rules that belong to the configuration and the host."""
        protection = self.pipeline.ladder.protection
        return self.live.ruleset(protection, self.store, now().wall)

    # Start and stop

    async def start(self) -> None:
        """Protect, and only then look at the log.

        Raises:
            BackendError: the kernel refused.
        """
        if self.file.error is None:
            with suppress(StoreError):  # tried again by the timer
                await self.maintenance.follow_clock()  # before what is stored is compared
        self.configurator.protect()
        self.reconciler.start()
        await self.metrics.serve(self.live.config.metrics.listen)
        self.configurator.follow()
        if self.file.error is None:
            with suppress(StoreError):  # tried again by the timer
                self.backlog.begin()  # before a line is counted that came after that
        self.handshakes.start()
        self._displacing = self._tasks.spawn(self._displace())
        self._tasks.spawn(self._schedule.run())
        self._tasks.spawn(self.overload.run())
        if self.fleet is not None:
            self._tasks.spawn(self.fleet.run())
        if self.live.config.accounts.enabled:
            queue = self.pipeline.senders.queue
            self._tasks.spawn(queue_files.learn(queue, self.live.facts.spools))

    async def reconfigure(self) -> None:
        """Apply another configuration of the same mode."""
        self.configurator.apply()
        await self.metrics.serve(self.live.config.metrics.listen)

    async def displaced(self) -> None:
        """Wait, while observing, until what enforced before is removed."""
        if self.observing:
            await asyncio.wait({self._displacing})

    async def stop(self) -> None:
        """Stop looking; leave what is active. `close` follows."""
        with suppress(StoreError):
            self.logs.record()  # what is read again is not added to the days again
            self.maintenance.keep_days()
            sum(self.maintenance.keep_peaks())
        self.logs.close()
        if self.live.config.firewall.on_stop == "remove":
            self.backend.teardown()
        await self._tasks.cancel()

    def close(self) -> None:
        """Close what is open."""
        self._closing.close()

    def _close_store(self) -> None:
        self.store.close()

    async def _displace(self) -> None:
        """Remove what another backend left, once this one enforces all that is stored."""
        if self.observing or (self.file.error is None and await self.reconciler.begun()):
            await self.leftovers.remove(now().boot)

    # Parts

    def _evident(self) -> bool:
        """Return whether the database is open, and has the evidence of existing logs."""
        return self.file.error is None and self.backlog.done

    def _announcer(self) -> Announcer:
        """Return what is called with decisions."""
        single: list[Listener] = [self.journal, alert, self.hook.decided]
        ender = SessionEnder(self.pipeline, self.live.ports)
        self._closing.callback(ender.close)
        always = (self.overload,) if self.observing else (ender, self.overload)
        return Announcer(single, (self.journal.bulk,), always)

    def _expose(self) -> bytes:
        from throttled.metrics.exposition import expose  # noqa: PLC0415 - see `MetricsServer.serve`

        return expose(status(self.desk), exposed(self.desk))

    def _report(self, reports: Sequence[Report]) -> None:
        """Say which senders crossed a limit."""
        report(reports)
        self.hook.reported(reports)

    def _requests(self) -> PolicyRequests:
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
        requests.on_hold = OnHold(self.file.path)
        return requests

    def _desk(
        self, loop_errors: LoopErrors, started: Moment, reload: Callable[[], Awaitable[str]]
    ) -> Desk:
        """Return what operators' commands work on."""
        running = Running(
            started=started,
            reconciler=self.reconciler,
            leftovers=self.leftovers,
            logs=self.logs,
            handshakes=self.handshakes,
            backlog=self.backlog,
            findings=self.health.findings,
            loop_errors=lambda: loop_errors.count,
            announce=lambda decisions, notice: self.announcer(decisions, notice=notice),
            reload=reload,
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
            config=lambda: self.live.config,
            reconfigure=self.configurator.apply,
            clock=now,
            running=running,
            lists=Lists(self.pipeline.ladder),
        )

    # What is wrong

    def _reporters(self) -> list[Reporter]:
        pipeline, live = self.pipeline, self.live
        return [
            EnforcementReporter(pipeline, self.file, self.maintenance, self.leftovers, live.ports),
            LogReporter(self.logs, pipeline),
            self._silence.findings,
            self.reconciler.findings,
            lambda _: self.handshakes.findings(),
            lambda _: self.requests.findings(),
            lambda at: bypass.findings(pipeline, self.backend, live.facts, self.ruleset, at),
            ClientReporter(pipeline),
            SenderReporter(pipeline),
            self.overload.findings,
            lambda at: () if self.fleet is None else self.fleet.findings(at),
            self._warnings,
        ]

    def _warnings(self, _at: float) -> Iterator[Finding]:
        if self.hook.finding:
            yield self.hook.finding
        errors = {
            "config": self.live.error,
            "metrics": self.metrics.error,
            "fleet": self.fleet_error,
        }
        yield from failures("warning", errors)
        for what in self.live.facts.warnings:
            yield Finding("warning", what, "see: throttled check", "host")

    # The schedule

    def _plan(self) -> Schedule:
        """Return what is done again and again."""
        last_mail = LastMail(self.hook)
        last_mail.load(self.store, now())
        schedule = Schedule(self.pipeline.skipped, now)
        for seconds, job in (
            (0, self.logs.tick),
            (0, self.requests.tick),
            (0, lambda moment: self._silence.tick(moment.boot)),
            (0, lambda _: self.logs.record()),
            (0, self._keep_kernel),
            (_REOPEN, self._reopen),
            (0, self.configurator.tick),
            (_FACTS, self.configurator.check_host),
            (0, self._start_tasks),
            (0, self.health.tick),
            (0, lambda moment: last_mail.tick(self.store, moment)),
        ):
            schedule.every(seconds, job)
        if self.observing:
            first_week = FirstWeek(self.file.path, self.hook.mail)
            schedule.every(0, lambda moment: self._first_week(first_week, moment))
        else:
            end_observing(self.live.config.observed())
        return schedule

    def _first_week(self, first_week: FirstWeek, moment: Moment) -> None:
        """Report what would have been done, once a day and a week of observing are over."""
        if self.file.error is None and (length := first_week.due(self.store, moment)):
            self._tasks.spawn(first_week.report(length, moment))

    def _keep_kernel(self, moment: Moment) -> None:
        if self.maintenance.steady(moment) or self.pipeline.recorder.error is not None:
            self.reconciler.tick(moment)

    def _start_tasks(self, moment: Moment) -> None:
        """Begin again what takes long and is not under way."""
        self.protected.tick()
        if self.leftovers.due(moment.boot):
            self._tasks.spawn(self.leftovers.remove(moment.boot))
        self._tasks.spawn_single(self.maintenance.run)
        if not self.backlog.done and self.file.error is None:
            self._tasks.spawn_single(self.backlog.run)

    def _reopen(self, moment: Moment) -> None:
        """Use the database's file as soon as that can be, or the one that is there now."""
        if self.file.reopen(self.pipeline, moment):
            self.protected.again()
            self.configurator.apply()
            self.reconciler.compare()
