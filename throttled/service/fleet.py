"""The connection to the fleet process. Decides nothing: `core/fleet.py` does.

The daemon connects to the process, again and again: it works alone until then. Owns the connection
and a task for each peer whose entries are under way.
"""

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import perf_counter

from throttled.clock import now
from throttled.config.fleet import Fleet as Settings
from throttled.core.fleet import Fleet
from throttled.core.pipeline import Pipeline
from throttled.errors import ConfigError, StoreError
from throttled.fleet import frames
from throttled.fleet.files import read_secret, text
from throttled.fleet.frames import Connect, Down, Entries, Frames, Names, Recorded, Up
from throttled.health.fleet import findings
from throttled.model import Decision, Finding
from throttled.service.announce import Announcer
from throttled.sources.logs import Logs

log = logging.getLogger("throttled")

_AGAIN = 1.0
#: Names tried so long before the start are published: lines of before it may be read only now.
_RECENT = 60.0
#: Decisions that are announced one by one.
_SINGLE = 20
_END = object()
#: Seconds after which a step may have kept own lines waiting.
_LONG = 0.001


class FleetLink:
    """Moves messages between the fleet process and the fleet."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, logs: Logs, announcer: Announcer
    ) -> None:
        """Read the files.

        Raises:
            ConfigError: one cannot be used.
        """
        self.settings = settings
        name = settings.name or os.uname().nodename.partition(".")[0]
        secret = read_secret(settings.secret)
        self._announcer = announcer
        self._connect = Connect(
            settings.server,
            settings.site,
            name,
            float(settings.longest),
            text(settings.password),
            text(settings.ca),
            text(settings.cert),
            text(settings.key),
            settings.sentinel_user,
            text(settings.sentinel_password),
        )
        self.fleet = Fleet(
            settings,
            name,
            secret,
            pipeline,
            positions=logs.positions,
            announce=self._announce,
            since=now().boot - _RECENT,
        )
        self._wake = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None  # to the fleet process
        self._stepping = asyncio.Lock()
        self._taking: dict[str, asyncio.Task[None]] = {}

    def __call__(self, decisions: Sequence[Decision]) -> None:
        """Publish what was decided, which the history has; of peers' decisions nothing is."""
        if not all(decision.origin.startswith("peer:") for decision in decisions):
            self._publish()
        self._wake.set()

    def _publish(self) -> None:
        """Send the next entry to the fleet process, if there is one and none is on its way."""
        if self._writer is None:
            return
        with suppress(StoreError):  # tried again
            entry = self.fleet.next(now())
            if entry is not None:
                self._writer.write(frames.encode(entry))

    async def run(self) -> None:
        """Be connected, for ever."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.settings.socket)
            except OSError:
                missing = f"the fleet process does not listen at {self.settings.socket}"
                self.fleet.lost(Down("process", missing), now())
            else:
                await self._session(reader, writer)
            await asyncio.sleep(_AGAIN)

    def findings(self, boot: float) -> Iterator[Finding]:
        """Yield what is wrong with the fleet."""
        yield from findings(self.fleet, boot)

    def _announce(self, decisions: Sequence[Decision]) -> None:
        self._announcer(decisions, notice=len(decisions) <= _SINGLE)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.encode(self._connect))
        self._writer = writer
        tasks = [asyncio.create_task(job) for job in (self._receive(reader, writer), self._send())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, frames.FrameError) as error:
            log.warning("the connection to the fleet process ended: %s", error)
        finally:
            self._writer = None
            every = [*tasks, *self._taking.values()]
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
            self._taking.clear()
            writer.close()
            self.fleet.lost(Down("process", "the fleet process ended"), now())

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = Frames(frames.to_daemon)
        while data := await reader.read(1 << 16):
            for message in messages.feed(data):
                try:
                    self._message(message, writer)
                except StoreError as error:
                    raise OSError(error.message) from error  # begin again, when the store works
                await asyncio.sleep(0)

    def _message(self, message: frames.ToDaemon, writer: asyncio.StreamWriter) -> None:
        fleet, moment = self.fleet, now()
        if isinstance(message, Up):
            version = message.server.version
            log.info("fleet %s: connected, Redis server %s", self.settings.site, version)
            fleet.connected(message, moment)
        elif isinstance(message, Down):
            if fleet.down is None:
                log.warning("fleet %s: %s", self.settings.site, ascii(message.text))
            fleet.lost(message, moment)
        elif isinstance(message, Names):
            read = fleet.named(message, moment)
            if read is not None:
                writer.write(frames.encode(read))
        elif isinstance(message, Entries):
            if message.peer in self._taking:
                raise frames.FrameError("entries that were not asked for")
            task = asyncio.create_task(self._entries(message, writer))
            self._taking[message.peer] = task
        else:
            fleet.added(moment)
        self._wake.set()

    async def _entries(self, message: Entries, writer: asyncio.StreamWriter) -> None:
        """Process entries of a peer, then let the next come.

        Of all peers one step is made at a time: own lines come in between.
        """
        inbox = self.fleet.inbox
        what = message.peer, message.server, message.entries
        while True:
            try:
                steps = inbox.steps(*what, now)
                while await self._step(steps):
                    pass
                break
            except StoreError:  # reported where it is recorded
                await asyncio.sleep(_AGAIN)
        await asyncio.sleep(inbox.pause(message.peer, now().boot))
        del self._taking[message.peer]
        writer.write(frames.encode(Recorded(message.peer)))

    async def _step(self, steps: Iterator[None]) -> bool:
        """Make a step, alone in its iteration of the event loop; return whether there was one."""
        async with self._stepping:
            began = perf_counter()
            if next(steps, _END) is _END:
                return False
            long = perf_counter() - began > _LONG
            await asyncio.sleep(0)
            if long:  # what became readable meanwhile is read in the next iteration
                await asyncio.sleep(0)
        return True

    async def _send(self) -> None:
        while True:
            self._publish()
            due = self.fleet.outbox.due(now())
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN if due is None else due):
                    await self._wake.wait()
            self._wake.clear()


def open_link(
    settings: Settings, pipeline: Pipeline, logs: Logs, announcer: Announcer
) -> tuple[FleetLink | None, ConfigError | None]:
    """Return the connection to the fleet; None: off, or its files cannot be used, for which error.

    The announcer passes all decisions to it.
    """
    if not settings.site:
        return None, None
    try:
        link = FleetLink(settings, pipeline, logs, announcer)
    except ConfigError as error:
        log.error("no fleet: %s. %s", error.message, error.hint)
        return None, error
    announcer.first(link)
    return link, None
