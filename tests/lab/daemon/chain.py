"""The daemon's whole chain in this process, for input that nobody foresaw.

From a file through tail, parser, engine, ladder and store to a backend that touches nothing, and
again after a restart: what was read is read back, what is stored is restored. Only sockets, timers
and the host's facts are missing. `tests/unit/test_chain.py` and `scripts/fuzz` use it.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from throttled.address import is_subject
from throttled.clock import now
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.restoring import adopt, restore
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import SCOPES, Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.sources.logs import Logs
from throttled.store.store import Filter, Store

#: What SQLite takes into a column, whatever its declared type: all but NULL, which it refuses here.
ODD = (
    *("", "x", "\x00", "198.51.100.0/99", "fe80::1%eth0", "9" * 400, b"", b"\xff\xfe", b"[1,2"),
    *(-1, 0, (1 << 63) - 1, -(1 << 63), 1e308, -1e308, float("inf"), float("-inf"), "[1]", "{}"),
)
_RULES = Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 10_000)


def offence(client: str, count: int = 11, at: float | None = None) -> list[str]:
    """Return lines that have a client banned."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    stamp = moment.isoformat(timespec="microseconds")
    text = f"warning: non-SMTP command from unknown[{client}]: GET / HTTP/1.1"
    return [f"{stamp} mx postfix/smtpd[{n}]: {text}" for n in range(1, count + 1)]


class Chain:
    """A log, a database and what comes of them.

    Args:
        directory: empty; a log and a database are made there.
    """

    def __init__(self, directory: Path) -> None:
        self.log = directory / "mail.log"
        self.log.touch()
        self.database = directory / "t.db"
        self.skipped: dict[str, int] = {}  # of the latest session
        self.facts = Facts()

    def session(self, lines: Sequence[str]) -> list[Decision]:
        """Start, read some lines, look after what is stored, stop; return the decisions."""
        return asyncio.run(self._session(lines))

    def banned(self, client: str) -> bool:
        """Return whether a client is banned, as far as the database knows."""
        with closing(Store.open(str(self.database))) as store:
            rows = store.listing.snapshots(time.time(), Filter(subject=client))
            return any(row.action == "ban" for row in rows)

    async def _session(self, lines: Sequence[str]) -> list[Decision]:
        decisions: list[Decision] = []
        store = Store.open(str(self.database))
        backend = DryRun()
        backend.setup(_RULES)
        policy, parser = Policy(), Parser(UTC, time.time())
        pipeline = Pipeline(policy, self.facts, store, backend, parser)
        logs = Logs(pipeline, decisions.extend)
        try:
            await restore(pipeline, backend, now)
            await adopt(pipeline, backend, now)
            logs.follow([str(self.log)])
            with self.log.open("a", encoding="latin-1", errors="replace") as log:
                log.writelines(f"{line}\n" for line in lines)
            logs.tick(now())
            await self._settle(logs)
            await Maintenance(pipeline, now, lambda _ended, _count: None).run()
            self._ask(pipeline)
        finally:
            logs.close()
            self.skipped = pipeline.skipped_by_kind()
            store.close()
        return decisions

    async def _settle(self, logs: Logs) -> None:
        """Let the loop read to the end of the log."""
        for _ in range(1000):
            await asyncio.sleep(0)
            (follower,) = logs.followers
            if follower.tail.state().lag == 0:
                return
            logs._read(follower)
        raise AssertionError("not read to its end")

    def _ask(self, pipeline: Pipeline) -> None:
        """Ask what operators ask."""
        store, at = pipeline.recorder.store, now()
        store.active.counts(at.wall)
        store.allowlist.entries(at.wall)
        for row in store.listing.snapshots(at.wall):
            store.decisions(row.subject)
            store.past([(row.subject, scope) for scope in SCOPES], at.wall)
            if is_subject(row.subject):  # no other can be asked about
                pipeline.engine.meters(row.subject, at.boot)


def spoil(database: Path, rng: random.Random, times: int) -> Iterator[Mapping[str, object]]:
    """Put odd values into rows of a database; yield what was put where."""
    with closing(Store.open(str(database))) as store:
        connection = store._database.connection
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'tally'"
        tables = [name for (name,) in connection.execute(query)]
        for _ in range(times):
            table = rng.choice(tables)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column, value = rng.choice(columns), rng.choice(ODD)
            with _allowed():
                statement = f'UPDATE OR IGNORE {table} SET "{column}" = ?'
                connection.execute(statement, (value,))
                yield {"table": table, "column": column, "value": value}


@contextmanager
def _allowed() -> Iterator[None]:
    """Pass over a value that even SQLite refuses: text as the number of a row."""
    try:
        yield
    except Exception as error:
        if "mismatch" not in str(error):
            raise
