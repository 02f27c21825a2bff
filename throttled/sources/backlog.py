"""Reads the logs that exist at the first start for good evidence: deliveries and logins.

Without it a sender that delivered for years is judged as new on the first day. Meanwhile the log
is followed, and decisions are made and applied; a client whose lines were not read yet is judged
as new. These lines lead to no decision: an engine without limits counts them, and only its
evidence is stored.

The evidence of a piece of a log is stored in one transaction with the position in the log, so a
restart continues there, and reads nothing twice. The latest lines come first. It ends after
`MAX_BYTES` of text, `MAX_SECONDS` of one run, or at lines older than evidence is kept.

Owns its engine and the one task. The event loop continues every `_SLICE` lines (a millisecond);
files are read and inflated in a thread.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from msgspec import MsgspecError, msgpack
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.decide.engine import Engine
from throttled.errors import SourceError, StoreError
from throttled.facts import Facts
from throttled.log_paths import is_journal
from throttled.model import Event, Evidence
from throttled.sources.logs import Logs
from throttled.store.good import MEMORY, day_of
from throttled.store.store import StoredPosition
from throttled.tail.backoff import Backoff
from throttled.tail.past import Piece, Place, pieces

log = logging.getLogger("throttled")

MAX_BYTES = 1 << 30  # of text, all logs together
MAX_SECONDS = 600.0
_SLICE = 100  # lines between two iterations of the event loop
_LOGGED = 10.0  # seconds between two messages about progress
_DAY = 86400.0
#: Clients of which something is kept between two lines of a session.
_CLIENTS = 1000


class Backlog:
    """The task, and what `status` says of it."""

    def __init__(
        self,
        pipeline: Pipeline,
        logs: Logs,
        facts: Callable[[], Facts],
        clock: Callable[[], Moment],
    ) -> None:
        """Read nothing yet.

        Args:
            pipeline: its store takes the evidence.
            logs: what is followed, and from where on.
            facts: of this host: whose lines count.
            clock: returns both clocks.
        """
        self.progress = ""  # what it does; "": nothing, or all is done
        self._pipeline = pipeline
        self._logs = logs
        self._facts = facts
        self._clock = clock
        self.done = False
        self._retry = Backoff(most=60.0)
        self._bytes = self._deliveries = self._logins = 0
        self._began = self._logged = 0.0

    async def run(self) -> None:
        """Read what there is to read; once that is done there is nothing more to do."""
        at = self._clock().boot
        if self.done or not self._retry.due(at) or self._pipeline.recorder.error is not None:
            return
        try:
            await self._run()
        except StoreError as error:
            self._retry.failed(at, error.message)  # reported by the code that records
        except Exception as error:  # noqa: BLE001 - it may not continue for ever
            self._pipeline.skipped.add("log", error)
            self.done = True
        finally:
            self.progress = ""

    async def _run(self) -> None:
        store = self._pipeline.recorder.store
        states = self.begin()
        if not states:
            return  # no log is followed yet
        self._began = self._logged = self._clock().boot
        left = {path: place for path, state in states.items() if (place := _place(state))}
        for path, place in left.items():
            log.info("reading %s for deliveries and logins before the first start", path)
            try:
                await self._read(path, place)
            except (SourceError, OSError) as error:
                log.warning(
                    "%s: not all existing lines were read for deliveries and logins: %s",
                    path,
                    error,
                )
            store.positions.record_backlog(self._clock().wall, [StoredPosition(path, b"")])
        if left:
            log.info("finished reading existing logs: %s", self._found())
        self._retry.succeeded()
        self.done = True

    def begin(self) -> dict[str, bytes]:
        """Return how far each log has been read; at the first start record where it begins.

        Raises:
            StoreError: the store does not work.
        """
        known = self._pipeline.recorder.store.positions.backlog()
        if known:
            return known
        positions = [f.tail.position for f in self._logs.followers]
        states = {
            p.path: msgpack.encode(Place(p)) if p.inode or is_journal(p.path) else b""
            for p in positions
            if p is not None
        }
        rows = [StoredPosition(path, state) for path, state in states.items()]
        self._pipeline.recorder.store.positions.record_backlog(self._clock().wall, rows)
        return states

    async def _read(self, path: str, place: Place) -> None:
        """Read the past of one log, a piece at a time."""
        policy = replace(self._pipeline.ladder.policy, limits={}, max_clients=_CLIENTS)
        engine = Engine(policy, self._facts())
        if is_journal(path):  # only this machine's is read
            engine.hosts.local(0)
        parse = self._pipeline.counting.parser.another().event
        now = self._clock()
        source = pieces(place, now.wall - MEMORY * _DAY, MAX_BYTES - self._bytes)
        stopped = False

        def next_piece() -> Piece | None:
            piece = next(source, None)
            if stopped:  # meanwhile
                source.close()
            return piece

        try:
            while (piece := await asyncio.to_thread(next_piece)) is not None:
                evidence = await self._count(engine, parse, piece)
                row = StoredPosition(path, msgpack.encode(piece.place))
                self._pipeline.recorder.store.positions.record_backlog(
                    self._clock().wall, [row], evidence
                )
                self._progress(piece.name)
                if self._bytes >= MAX_BYTES or self._clock().boot - self._began >= MAX_SECONDS:
                    log.info("existing logs: limit reached, older lines are left out")
                    break
        finally:
            stopped = True
            with suppress(ValueError):  # the thread is at work, and closes it
                source.close()

    async def _count(
        self, engine: Engine, parse: Callable[[str, float], Event | None], piece: Piece
    ) -> list[Evidence]:
        """Return the evidence in some lines, of each day by itself: days are what counts."""
        found: list[Evidence] = []
        day = 0

        def count(line: str) -> None:
            nonlocal day
            event = parse(line, piece.written)
            if event is None:
                return
            if day_of(event.time) != day:
                found.extend(engine.drain().evidence)
                day = day_of(event.time)
            engine.step(event, event.time, offset=-1)

        for at in range(0, len(piece.lines), _SLICE):
            self._pipeline.skipped.run("line", piece.lines[at : at + _SLICE], count)
            await asyncio.sleep(0)
        found += engine.drain().evidence
        self._bytes += sum(map(len, piece.lines)) + len(piece.lines)
        self._deliveries += sum(one.deliveries for one in found)
        self._logins += sum(one.logins for one in found)
        return found

    def _progress(self, name: str) -> None:
        self.progress = f"reading existing logs for deliveries and logins: {name}; {self._found()}"
        at = self._clock().boot
        if at - self._logged >= _LOGGED:
            self._logged = at
            log.info("%s", self.progress)

    def _found(self) -> str:
        size = f"{self._bytes / 1e6:,.1f} MB"
        return f"{size} read, {self._deliveries:,} deliveries and {self._logins:,} logins found"


def _place(state: bytes) -> Place | None:
    """Return where to continue; None where all is read, or another program altered the row."""
    try:
        return msgpack.decode(state, type=Place) if state else None
    except (MsgspecError, ValueError):
        return None
