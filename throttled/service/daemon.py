"""The daemon: wires the rooms, and runs the loop.

One thread, one asyncio loop: a readable log, a request, a changed host, a foreign hand on our
table and a timer are all callbacks; whatever takes longer (a million stored bans) is done in
pieces between them. Stopping leaves what is in force standing; starting adopts it.

Owns the store, the pipeline, the logs and the guard of the kernel (`throttled.core.reconciler`).
`throttled.operator.requests` answers requests, `throttled.health.problems` says what is wrong.
"""

import asyncio
import errno
import gc
import logging
import math
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from throttled import __version__
from throttled.clock import Moment, now
from throttled.config.load import load
from throttled.config.schema import Config
from throttled.control.protocol import Request, Result
from throttled.control.server import Peer, Server
from throttled.core.leftovers import Leftovers
from throttled.core.maintenance import Upkeep
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.core.reconciler import Guard
from throttled.core.reopening import open_or_without, reopen
from throttled.decide.protect import Protection
from throttled.enforce.backend import Backend
from throttled.enforce.choose import choose
from throttled.enforce.sessions import AGAIN, Endings
from throttled.errors import (
    BackendError,
    ConfigError,
    HostError,
    NotPermittedError,
    StoreError,
    ThrottledError,
)
from throttled.health.problems import Health
from throttled.host.addresses import Watch as HostWatch
from throttled.host.facts import gather
from throttled.host.files import Fingerprint, fingerprint
from throttled.host.files import Watch as FileWatch
from throttled.host.zone import local_zone
from throttled.linux.systemd import notify
from throttled.metrics.exposition import expose
from throttled.metrics.server import MetricsServer
from throttled.model import SCOPES, Decision, Facts, Mode, Ruleset, Scope
from throttled.notify import line as announce
from throttled.notify.hook import Hook
from throttled.operator.audit import Audit
from throttled.operator.requests import Operations
from throttled.parse.parser import Parser
from throttled.repeats import Repeats
from throttled.service import last_facts as known
from throttled.sources.backlog import Backlog
from throttled.sources.handshakes import Handshakes
from throttled.sources.logs import Logs
from throttled.store.store import Store

log = logging.getLogger("throttled")

_TICK = 1.0
_FACTS = 60.0
#: How often it is tried to open a database that could not be used.
_REOPEN = 2.0
#: Addresses and routes change in bursts.
_SETTLED = 0.2
#: Decisions of one batch that are logged one by one.
_LOGGED = 20
#: What a system call that makes a descriptor fails with where there are too many.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Options(Struct, frozen=True):
    """What the command line says."""

    config: str | None = None
    backend: str | None = None
    mode: Mode | None = None

    def load(self) -> Config:
        """Return the configuration with the command line's words in it.

        Raises:
            ConfigError: it cannot be used.
        """
        config = load(self.config)
        if self.mode is not None:
            config = replace(config, mode=self.mode)
        if self.backend is not None:
            config = replace(config, firewall=replace(config.firewall, backend=self.backend))
        return config


class Daemon:
    """Everything together."""

    def __init__(self, options: Options) -> None:
        """Load the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self.options = options
        self.config = options.load()
        self.started = now()
        self.facts = Facts()
        self.backend: Backend
        self.pipeline: Pipeline
        self.guard: Guard
        self.leftovers: Leftovers
        self.protected: Protected
        self.handshakes: Handshakes
        self.logs: Logs
        self.upkeep: Upkeep
        self.backlog: Backlog
        self.store_problem: StoreError | None = None
        self.config_problem: ConfigError | None = None  # of the last reload
        self.metrics_problem: ConfigError | None = None
        self._metrics = MetricsServer(lambda: expose(Operations(self).status()))
        self._files: Fingerprint = ()
        self._file_watch: FileWatch | None = None
        self._allowed: list[str] = []
        self._moves = 0  # of the clock, when the allowlist was read last
        self._allowed_until = math.inf  # wall clock, of the first entry that ends
        self.health = Health(self)
        self.hook = Hook(self.config.notify)
        self._repeats = Repeats()
        self._audit = Audit(lambda: self.store)
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed: ThrottledError | None = None  # at a change of the mode: nothing works now
        self._busy: set[asyncio.Task[Any] | None] = set()  # requests that use the store
        self._reloading = asyncio.Lock()
        self._closing = ExitStack()
        self._refreshing: asyncio.Task[Any] | None = None
        self._changed = False  # something of the host, since it was asked last
        self._keeping: asyncio.Task[Any] | None = None
        self._ending: asyncio.Task[Any] | None = None
        self._learning: asyncio.Task[Any] | None = None
        self._displacing: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticked = self.started
        self._asked = self._opened = self.started.boot
        self._nodename = os.uname().nodename

    # Start and stop

    async def run(self) -> None:
        """Protect until told to stop.

        Raises:
            BackendError, NotPermittedError: the firewall cannot be used; says what is missing.
            ThrottledError: the control socket cannot be made.
        """
        asyncio.get_running_loop().set_exception_handler(self._surprise)
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
                notify(f"READY=1\nSTATUS={self.health.summary(self.health.problems())}")
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
            return await self._audit.handle(request, peer, Operations(self).handle)
        finally:
            self._busy.discard(task)

    async def _start(self) -> None:
        """Open what there is to open, protect, and only then look at the log."""
        loop = asyncio.get_running_loop()
        store, self.store_problem = open_or_without(self.config.database())
        if not self.facts.services:
            self.facts = known.load(store)
        self.facts = await asyncio.to_thread(self._gather)
        parser = Parser(local_zone(), now().wall)
        policy = self.config.policy()
        self.pipeline = Pipeline(policy, self.facts, store, self.backend, parser)
        self._closing.callback(self._close_store)
        self.logs = Logs(self.pipeline, self.report)
        self.handshakes = Handshakes(self.pipeline, self.report)
        self.upkeep = Upkeep(self.pipeline, now)
        self.protected = Protected(self.pipeline, self.report, now)
        self.backlog = Backlog(self.pipeline, self.logs, self._named, now)
        self._closing.callback(self.protected.close)
        self.guard = Guard(self.backend, self.pipeline, self.ruleset)
        self.endings = Endings()
        self.protect()
        self.guard.start()
        self._closing.callback(self.guard.close)
        for number, action in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGHUP, self._reload_soon),
        ):
            loop.add_signal_handler(number, action)
        self._watch_host()
        await self._serve_metrics()
        self._closing.callback(self._metrics.stop)
        self.logs.follow(self.config.logs(self.facts))
        if self.store_problem is None:
            with suppress(StoreError):  # tried again by the timer
                self.backlog.begin()  # before a line is counted that came after that
        self.handshakes.follow(self.config.sensor, self.facts)
        self.handshakes.start()
        self._closing.callback(self.handshakes.close)
        self._displacing = self._spawn(self._displace())
        self._spawn(self._tick_for_ever())
        gc.freeze()  # what is here stays: looking through it again and again took 50 ms each time
        log.info("throttled %s: %s, mode %s", __version__, self.backend.name, self.config.mode)

    async def _serve_metrics(self) -> None:
        """Serve the figures where the configuration says; protecting goes on without them."""
        self.metrics_problem = None
        try:
            await self._metrics.serve(self.config.metrics.listen)
        except ConfigError as error:
            log.warning("%s. %s", error.message, error.hint)
            self.metrics_problem = error

    @property
    def observing(self) -> bool:
        """Whether decisions are taken and recorded, but never put into a kernel."""
        return self.backend.name == "dryrun"

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
        self.leftovers = Leftovers(backend.name)
        self.hook.would = self.observing

    @staticmethod
    def _open_backend(config: Config) -> Backend:
        firewall = config.firewall
        name = "dryrun" if config.observing else firewall.backend
        backend = choose(name, firewall.xdp_mode)
        faults = [problem for problem in backend.check() if problem.state == "fault"]
        if faults:
            hint = faults[0].hint or "to decide and log without a firewall: --mode observe"
            error = NotPermittedError if os.geteuid() else BackendError
            raise error("; ".join(problem.what for problem in faults), hint)
        return backend

    async def _displace(self) -> None:
        """Remove what another backend left, once this one enforces all that is stored."""
        if self.observing or (self.store_problem is None and await self.guard.begun()):
            await self.leftovers.remove(now().boot)

    def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Stop looking; leave what is in force."""
        with suppress(StoreError):
            sum(self.upkeep.keep_peaks())
        for task in tasks:
            task.cancel()
        self.logs.close()
        if self.config.firewall.on_stop == "remove":
            self.backend.teardown()

    # The host

    def _gather(self) -> Facts:
        self._files = fingerprint(self.facts.files)  # before: what changes meanwhile is a change
        postfix = self.config.postfix
        directories = postfix.config_directories
        return gather(
            () if directories == "auto" else directories,
            postfix.scopes,
            postfix.hosts,
            self.facts,
        )

    def protect(self) -> None:
        """Make the protection anew: from facts, configuration and what was allowed by hand."""
        moment = now()
        known.save(self.store, self.facts, moment.wall)
        try:
            rows = self.store.allowed(moment.wall)
            self._allowed = [row.what for row in rows]
            self._allowed_until = min((row.until for row in rows if row.until), default=math.inf)
        except StoreError as error:
            log.error("%s; the allowlist stays as it was. %s", error.message, error.hint)
            self._allowed_until = moment.wall + _FACTS
        protection = Protection.of(self.facts, self.config.protect, self._allowed)
        self.pipeline.reconfigure(self.config.policy(), protection)
        self.pipeline.engine.facts(self._named())
        self.protected.follow(protection)

    def ports(self) -> dict[Scope, tuple[int, ...]]:
        """Return the ports to protect."""
        return self.config.filtered(self.facts)

    def _named(self) -> Facts:
        """Return the facts with the names of this host that `check` found in its log."""
        try:
            names = self.store.hosts()
        except StoreError as error:
            log.error("%s; recorded host names are not known. %s", error.message, error.hint)
            names = frozenset()
        known = self.facts.hostnames  # none known: every host's lines count
        return replace(self.facts, hostnames=known | names) if known else self.facts

    def ruleset(self) -> Ruleset:
        """Return the static rules that belong to the configuration and the host."""
        throttle = self.config.throttle
        return Ruleset(
            self.ports(),
            tuple(self.pipeline.ladder.protection.networks),
            throttle.rate,
            float(throttle.per),
            throttle.burst,
            self.config.firewall.size,
            self._stored(),
        )

    def _stored(self) -> int:
        """Return how many elements should be in force; 0 where the store does not say."""
        try:
            return sum(self.store.counts(now().wall).values())
        except StoreError:
            return 0

    def _watch_host(self) -> None:
        for kind in (HostWatch, FileWatch):
            try:
                watch = kind()
            except HostError as error:
                log.warning("%s; looked at once a minute only", error.message)
                continue
            loop = asyncio.get_running_loop()
            self._closing.callback(watch.close)
            loop.add_reader(watch.fileno(), self._host_event, watch)
            self._closing.callback(loop.remove_reader, watch.fileno())
            if isinstance(watch, FileWatch):
                self._file_watch = watch
                self._follow_files()

    def _follow_files(self) -> None:
        if self._file_watch is not None:
            self._file_watch.follow(self.facts.files)

    def _host_event(self, watch: HostWatch | FileWatch) -> None:
        if watch.drain():
            self._refresh_soon()

    def _refresh_soon(self) -> None:
        """Ask the host again, once for a burst of changes."""
        self._changed = True
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._spawn(self._refresh())

    async def _refresh(self) -> None:
        """Ask the host again and take what changed, until nothing changed meanwhile."""
        while self._changed:
            await asyncio.sleep(_SETTLED)
            self._changed = False
            self._take_facts(await asyncio.to_thread(self._gather))

    def _take_facts(self, facts: Facts) -> None:
        if facts == self.facts:
            self._follow_files()  # a directory may have been replaced
            if self.backend.name == "xdp":
                self.guard.reconfigure()  # it is at interfaces without an address too
            if self.logs.unopened:
                self.logs.follow(self.config.logs(facts))
            return
        log.info("this host changed: addresses, routes or Postfix's configuration")
        self.facts = facts
        self.apply_configuration()

    def apply_configuration(self) -> None:
        """Take changed facts, configuration or allowlist; what is in force stays."""
        self._follow_files()
        self.protect()
        self.guard.reconfigure()
        self.logs.follow(self.config.logs(self.facts))
        self.handshakes.follow(self.config.sensor, self.facts)

    def _reload_soon(self) -> None:
        self._spawn(self.reload())

    async def reload(self) -> str:
        """Read the configuration again; a bad one changes nothing. Return what to tell.

        Raises:
            ConfigError: the file cannot be used; the old configuration stays.
            BackendError, NotPermittedError: nor can the firewall, for enforcing.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> str:
        notify("RELOADING=1")
        try:
            config = self.options.load()
        except ConfigError as error:
            error.message = f"not reloaded: {error.message}"
            self.config_problem = error
            raise
        finally:
            notify("READY=1")
        kept = [
            name
            for name, before, after in (
                ("store.path", self.config.store, config.store),
                ("control", self.config.control, config.control),
                ("firewall.backend", self.config.firewall.backend, config.firewall.backend),
                ("firewall.xdp_mode", self.config.firewall.xdp_mode, config.firewall.xdp_mode),
            )
            if before != after
        ]
        # What needs a restart stays as it is until then, also in what `status` says.
        running = self.config.firewall
        firewall = replace(config.firewall, backend=running.backend, xdp_mode=running.xdp_mode)
        config = replace(
            config, store=self.config.store, control=self.config.control, firewall=firewall
        )
        if config.observing != self.config.observing:
            await self._switch(config)
        else:
            self.config = config
            self.facts = await asyncio.to_thread(self._gather)
            self.apply_configuration()
            await self._serve_metrics()
        self.config_problem = None
        self.hook.settings = config.notify
        told = f"reloaded; needs a restart: {', '.join(kept)}" if kept else "reloaded"
        log.info(told)
        return told

    async def _switch(self, config: Config) -> None:
        """Begin or end observing: as a restart, but requests wait and notifications go on.

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
        self.config = config
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

    def report(self, decisions: Sequence[Decision], *, told: bool = True) -> None:
        """Log decisions if they are to be told, and end the sessions that they are to end."""
        for decision in decisions[: _LOGGED if told else 0]:
            log.info("%s", announce.line(decision, would=self.observing))
        if told and len(decisions) > _LOGGED:
            log.info("and %d more decisions at once", len(decisions) - _LOGGED)
        for alert in {decision.alert for decision in decisions if decision.alert}:
            log.warning("%s", alert)
        if told:
            self.hook.decided(decisions)
        further = self.pipeline.further(now())
        if not self.observing:
            banned = [(d.subject, d.scope) for d in decisions if d.action == "ban"]
            spared = partial(self._spared, banned)
            ending = [*decisions, *further]
            self.endings.end(ending, self.ruleset().ports, now().boot, spared)
            if self.endings.pending and (self._ending is None or self._ending.done()):
                self._ending = self._spawn(self._end_pending())

    async def _end_pending(self) -> None:
        """End the sessions in which the server owed a reply, once it has given it."""
        while self.endings.pending:
            await asyncio.sleep(AGAIN)
            self.endings.again(self.ruleset().ports, now().boot)

    def _spared(self, banned: Sequence[tuple[str, Scope]], client: str) -> bool:
        """Return whether the ban of a network does not apply to a client inside it."""
        if self.pipeline.ladder.protection.reason(client):
            return True
        keys = [(client, scope) for scope in SCOPES if (client, scope) not in banned]
        try:
            pasts = self.store.past(keys, now().wall)
        except StoreError:  # reported where it is recorded
            return False
        return any(past.action == "exempt" for past in pasts.values())

    # The timer

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            for each in (self._tick, self._tell):
                try:
                    each(now())
                except ThrottledError as error:
                    log.error("%s. %s", error.message, error.hint)
                except Exception as error:  # noqa: BLE001 - the other, and the next one, go on
                    self.pipeline.skipped.add("step", error, each.__name__)

    def _tell(self, _moment: Moment) -> None:
        """Tell the hook and the service manager how we are; without that we are restarted."""
        notify("WATCHDOG=1")  # the loop turns, whatever becomes of what follows
        wrong = self.health.problems()
        notify(f"STATUS={self.health.summary(wrong)}")
        self.hook.health(wrong)

    def _tick(self, moment: Moment) -> None:
        self.logs.tick(moment.boot - self._ticked.boot)
        self.health.tick()
        self._ticked = moment
        self.logs.record()
        if self.upkeep.steady(moment) or self.pipeline.recorder.fault is not None:
            self.guard.tick(moment)
        if self.store_problem is not None or self.pipeline.recorder.fault is not None:
            self._reopen(moment)
        due = moment.wall >= self._allowed_until or self.upkeep.moves != self._moves
        if due and self.upkeep.steady(moment):  # else the ends are about to move with the clock
            self._moves = self.upkeep.moves
            self.apply_configuration()
        if (name := os.uname().nodename) != self._nodename:
            self._nodename = name
            self._refresh_soon()
        if moment.boot - self._asked > _FACTS:
            self._asked = moment.boot
            changed = fingerprint(self.facts.files) != self._files
            if changed or not self.logs.followers or self.logs.unopened:
                self._refresh_soon()
        self.protected.tick()
        if self.leftovers.due(moment.boot):
            self._spawn(self.leftovers.remove(moment.boot))
        if self._keeping is None or self._keeping.done():
            self._keeping = self._spawn(self.upkeep.run())
        idle = self._learning is None or self._learning.done()
        if idle and not self.backlog.done and self.store_problem is None:
            self._learning = self._spawn(self.backlog.run())

    def _reopen(self, moment: Moment) -> None:
        """Use the database's file as soon as that can be, or the one that is there now."""
        if moment.boot - self._opened < _REOPEN:
            return
        self._opened = moment.boot
        if self.store_problem is None and not self.store.gone():
            return  # it is the right one, and is tried again every second
        try:
            reopen(self.pipeline, self.config.database(), moment)
        except StoreError as error:
            if self.store_problem is not None:
                self.store_problem = error
            return
        self.store_problem = None
        self.protected.again()
        self.apply_configuration()
        self.guard.compare()

    # Helpers

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _surprise(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Survive what no one foresaw, loudly."""
        error = context.get("exception")
        if isinstance(error, ThrottledError):
            log.error("%s. %s", error.message, error.hint)
            self.pipeline.counts.errors += 1
        elif isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context:
            # asyncio accepts again after a second, and until then reports a hundred times.
            if times := self._repeats.due("accept", now().boot):
                what = "connections wait to be accepted: %s (%d times); see LimitNOFILE"
                log.error(what, error.strerror, times)
                self.pipeline.counts.errors += 1
        else:
            self._unforeseen(str(context.get("message")), error)

    def _unforeseen(self, what: str, error: BaseException | None) -> None:
        self.pipeline.counts.errors += 1
        if times := self._repeats.due(f"{what}: {error!r}", now().boot):
            log.error("unforeseen (%d times): %s", times, what, exc_info=error)


def run(config: str | None, backend: str | None, mode: Mode | None) -> int:
    """Run the daemon in the foreground until it is told to stop.

    Args:
        config: the file named on the command line, or None.
        backend: instead of the file's.
        mode: instead of the file's.

    Raises:
        ThrottledError: it cannot start.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="throttled: %(levelname)s: %(message)s"
    )
    asyncio.run(Daemon(Options(config, backend, mode)).run())
    return 0
