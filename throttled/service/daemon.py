"""The daemon's process: the control socket, signals, start and stop, changes of the mode.

One thread, one asyncio loop: a readable log, a request, a changed host, a firewall that another
program changed and a timer are all callbacks; longer work (a million stored bans) is done in
pieces between them. A stop leaves elements in the kernel; the next start adopts them.

Owns the live configuration, the hook and the runtime (`throttled.service.runtime`), which a change
of the mode replaces.
"""

import asyncio
import gc
import logging
import signal
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from throttled import __version__
from throttled.clock import now
from throttled.config.schema import Config
from throttled.control.requests import Reload, Request
from throttled.control.results import Done, Result
from throttled.control.server import Peer, Server
from throttled.core.reopening import StoreFile
from throttled.enforce.backend import Backend
from throttled.enforce.registry import open_backend
from throttled.errors import NotPermittedError, ThrottledError
from throttled.linux.systemd import notify
from throttled.model import Mode
from throttled.notify import journal
from throttled.notify.hook import Hook
from throttled.operator.answer import answer
from throttled.operator.audit import Trail, this_process
from throttled.service import last_facts
from throttled.service.configuration import LiveConfiguration, Options
from throttled.service.loop_errors import LoopErrors
from throttled.service.runtime import Runtime
from throttled.service.tasks import Tasks

log = logging.getLogger("throttled")


class Daemon:
    """What lasts from the start of the process to its end."""

    def __init__(self, options: Options) -> None:
        """Load the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self.live = LiveConfiguration(options)
        self.runtime: Runtime
        self._started = now()
        self._hook = Hook(self.live.config.notify)
        self._loop_errors = LoopErrors()
        self._trail = Trail(lambda: self.runtime.store, now)
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed: Exception | None = None  # at a change of the mode: nothing works now
        self._busy: set[asyncio.Task[Any] | None] = set()  # requests that use the store
        self._reloading = asyncio.Lock()
        self._reloads = Tasks()
        self._closing = ExitStack()  # of the runtime

    async def run(self) -> None:
        """Protect until asked to stop.

        Raises:
            BackendError, NotPermittedError: the firewall cannot be used; says what is missing.
            ThrottledError: the control socket cannot be made.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_errors)
        # It is done once all is ready.
        loop.add_signal_handler(signal.SIGHUP, lambda: self._reloads.spawn(self._signalled()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see `throttled.cli.run`
        config = self.live.config
        backend = _open(config)
        server = Server(Path(config.control.socket), config.control.group, self._answer)
        try:
            # Before anything is touched: two daemons must not share a table and a database.
            await server.start()
        except NotPermittedError as error:
            if config.mode != "observe":
                raise
            log.warning("%s; observing without it. %s", error.message, error.hint)
        try:
            with self._closing:
                await self._start(backend)
                await self._serve(server)
        finally:
            await server.stop()

    async def _serve(self, server: Server) -> None:
        """Answer requests until asked to stop."""
        notifying = asyncio.create_task(self._hook.run())
        try:
            self._ready.set()
            health = self.runtime.health
            notify(f"READY=1\nSTATUS={health.summary(health.findings())}")
            await self._stop.wait()
            notify("STOPPING=1")
            if self._failed is not None:
                raise self._failed
            await server.drain()  # what is under way needs the store
            async with self._reloading:  # of a change of the mode the runtime is not whole
                await self._reloads.cancel()
                if self._failed is not None:
                    raise self._failed
                await self.runtime.stop()
        finally:
            notifying.cancel()

    def stop(self) -> None:
        """End `run`, as SIGTERM does."""
        self._stop.set()

    async def _answer(self, request: Request, peer: Peer) -> Result:
        await self._ready.wait()
        task = asyncio.current_task()
        self._busy.add(task)
        try:
            return await self._trail.handle(request, peer, partial(answer, self.runtime.desk))
        finally:
            self._busy.discard(task)

    async def _start(self, backend: Backend) -> None:
        """Open what there is to open, and start."""
        live = self.live
        file = StoreFile(live.config.database())
        store = file.open()
        if not live.facts.services:
            live.facts = last_facts.load(store)
        live.facts = await asyncio.to_thread(live.gather)
        self.runtime = Runtime(
            live,
            backend,
            file,
            store,
            self._hook,
            loop_errors=self._loop_errors,
            started=self._started,
            reload=self.reload,
        )
        self._closing.callback(self.runtime.close)
        loop = asyncio.get_running_loop()
        for number in signal.SIGTERM, signal.SIGINT:
            loop.add_signal_handler(number, self.stop)
        await self.runtime.start()
        gc.freeze()  # what is here stays: looking through it again and again took 50 ms each time
        mode = live.config.mode
        log.info("version %s started: backend %s, mode %s", __version__, backend.name, mode)

    async def reload(self) -> str:
        """Read the configuration again; a bad one changes nothing. Return the message.

        Raises:
            ConfigError: the file cannot be used; the old configuration stays.
            BackendError, NotPermittedError: nor can the firewall, for enforcing.
        """
        self._busy.discard(asyncio.current_task())  # it waits for the others
        # Its request may be cut off; half a change of the mode would be none.
        return await asyncio.shield(self._reloads.spawn(self._reload()))

    async def _signalled(self) -> None:
        """Reload as SIGHUP asks; who sent it is not known."""

        async def reload(_request: Request, _peer: Peer) -> Result:
            return Done(await self._reload())

        with suppress(ThrottledError):  # it is in the log
            await self._trail.handle(Reload(), this_process(), reload)

    async def _reload(self) -> str:
        async with self._reloading:
            if self._failed is not None:  # it will never be ready
                raise self._failed
            await self._ready.wait()
            return await self._apply()

    async def _apply(self) -> str:
        live = self.live
        notify("RELOADING=1")
        try:
            config, kept = live.reload()
        finally:
            notify("READY=1")
        if config.observing != live.config.observing:
            await self._switch(config)
        else:
            live.config = config
            live.facts = await asyncio.to_thread(live.gather)
            await self.runtime.reconfigure()
        live.error = None
        self._hook.settings = config.notify
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
        backend = _open(config)
        self._ready.clear()
        if self._busy:
            await asyncio.wait([task for task in self._busy if task is not None], timeout=1)
        await self.runtime.displaced()  # it must not remove what comes next
        try:
            await self.runtime.stop()
            self.runtime.overload.stop()
            self._closing.close()
            self.live.config = config
            gc.unfreeze()
            await self._start(backend)
        except Exception as error:
            self._failed = error
            self.stop()
            raise
        await self.runtime.displaced()
        self._ready.set()


def _open(config: Config) -> Backend:
    firewall = config.firewall
    return open_backend(firewall.backend, firewall.xdp_mode, observing=config.observing)


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
