"""Existing logs read for evidence: real files, the real tails, engine and store."""

import asyncio
import gzip
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts
from throttled.model import Past
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.sources import backlog as module
from throttled.sources.backlog import Backlog
from throttled.sources.logs import Logs
from throttled.store.store import Store

DAY = 86400.0
GOOD, PHONE, BAD = "203.0.113.8", "203.0.113.9", "198.51.100.7"
MX = Facts(hostnames=frozenset({"mx"}))


def line(days: float, body: str, host: str = "mx", tag: str = "postfix/smtpd") -> str:
    """Return a line of some days ago, without a year."""
    stamp = time.strftime("%b %e %H:%M:%S", time.gmtime(time.time() - days * DAY))
    return f"{stamp} {host} {tag}[7]: {body}\n"


def mail(days: float, client: str = GOOD, host: str = "mx") -> str:
    counts = "ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5"
    return line(days, f"disconnect from x.test[{client}] {counts}", host)


def day(days: float) -> str:
    """Return a day's lines: three deliveries, a login, an attack, another host's delivery."""
    login = f"4A5B6C7D: client=x.test[{PHONE}], sasl_method=PLAIN, sasl_username=u"
    attack = line(days, f"warning: non-SMTP command from unknown[{BAD}]: GET / HTTP/1.1") * 20
    good = mail(days) * 3 + line(days, login, tag="postfix/submission/smtpd")
    return attack + mail(days, "203.0.113.66", "other") + attack + good


class Host:
    """A log with its rotated files, and a database."""

    def __init__(self, home: Path) -> None:
        self.log = home / "mail.log"
        self.log.write_text(day(0) + "half a line")  # each of the four on a day of its own
        self._put("mail.log.1", day(1), 1)
        for number in (2, 3):
            self._put(f"mail.log.{number}.gz", gzip.compress(day(number)[:-1].encode()), number)
        self._put("mail.log.4.gz", gzip.compress(day(60).encode()), 60)
        self.database = home / "t.db"
        self.progress: list[str] = []
        self.pasts: list[Past] = []

    def _put(self, name: str, data: str | bytes, days: float) -> None:
        path = self.log.with_name(name)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        moment = time.time() - days * DAY
        os.utime(path, (moment, moment))

    def run(self, more: str = "", killed: int = 0) -> bool:
        """Start, read, end as if killed; return whether all is read.

        Args:
            more: written after the start.
            killed: after so many pieces were recorded; -1: before the first is; 0: all are.
        """
        return asyncio.run(self._run(more, killed))

    async def _run(self, more: str, killed: int) -> bool:
        store = Store.open(str(self.database))
        pipeline = Pipeline(Policy(), MX, store, None, Parser(UTC, time.time()))
        logs = Logs(pipeline, lambda decisions: pytest.fail(f"decided: {decisions}"))
        logs.follow([str(self.log)])
        backlog = Backlog(pipeline, logs, lambda: MX, now)
        backlog.begin()
        with self.log.open("a") as file:
            file.write(more)
        task = asyncio.create_task(backlog.run())
        if killed:
            _kill(store, task, killed)
        while not task.done():
            await asyncio.wait({task}, timeout=0.001)
            if backlog.progress and backlog.progress not in self.progress:
                self.progress.append(backlog.progress)
                self.pasts.append(self.past(store, GOOD))
        logs.tick(now())
        for follower in list(logs.followers):
            logs._read(follower, again=False)
        pipeline.recorder.record(now())
        logs.follow([])
        store.close()
        return backlog.done

    def past(self, store: Store | None, client: str) -> Past:
        opened = store or Store.open(str(self.database))
        found = opened.past([(client, "mx")], time.time())[client, "mx"]
        if store is None:
            opened.close()
        return found


def _kill(store: Store, task: asyncio.Task[None], pieces: int) -> None:
    """End a task at a record of its: before it, or after it, while the next piece is read."""
    record = store.positions.record_backlog
    left = pieces

    def killed(*args: Any) -> None:
        nonlocal left
        if left < 0:
            raise asyncio.CancelledError
        record(*args)
        left -= 1
        if not left:
            task.cancel()

    store.positions.record_backlog = killed  # type: ignore[assignment,method-assign]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def exact(host: Host, *, more: int = 0) -> None:
    """Check that each line of the existing logs, and what came after, counted once."""
    good, phone, bad = (host.past(None, client) for client in (GOOD, PHONE, BAD))
    # A day of silence takes a thirtieth; four days with three each.
    assert (good.delivery_days, good.deliveries) == (4, faded(3) + more)
    assert (phone.logins, phone.deliveries) == (faded(1), 0)
    assert bad == Past()
    assert host.past(None, "203.0.113.66") == Past()  # another host's


def faded(count: int) -> int:
    """Return what is left of so many on each of four days, read from the latest to the oldest."""
    return sum(count - count * days // 30 for days in range(4))


def test_evidence_of_all_generations_and_no_decision(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert host.run()
    exact(host)
    assert "reading" in caplog.text
    assert (
        "finished reading existing logs: 0.0 MB read, 12 deliveries and 4 logins found"
        in caplog.text
    )


def test_a_restart_reads_nothing_again(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.run()
    caplog.set_level(logging.INFO)
    caplog.clear()
    assert host.run()
    exact(host)
    assert "reading" not in caplog.text


def test_killed_at_each_step_it_counts_each_line_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.tail.past.PIECE", 700)
    monkeypatch.setattr("throttled.tail.behind.PIECE", 700)
    pieces = 1
    while not any(host.run(killed=after) for after in (-1, pieces, 1)):
        pieces += 1  # archives are read again from their begin: so it gets further each time
    assert pieces > 7
    exact(host)
    assert host.run()
    exact(host)


def test_what_comes_meanwhile_counts_once(host: Host) -> None:
    host.run(more="\n" + mail(0) * 2)
    host.run(more=mail(0))
    exact(host, more=3)


def test_the_latest_come_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.tail.past.PIECE", 700)
    monkeypatch.setattr("throttled.tail.behind.PIECE", 700)
    monkeypatch.setattr(module, "_SLICE", 1)
    host.run()
    names = [text.partition(": ")[2].partition(";")[0] for text in host.progress]
    order = [Path(name).name for name in dict.fromkeys(names)]
    assert order == sorted(order)
    assert [past.deliveries for past in host.pasts] == sorted(p.deliveries for p in host.pasts)
    assert "mail.log.4.gz" not in order  # older than evidence is kept


@pytest.mark.parametrize("bound", ["MAX_BYTES", "MAX_SECONDS"])
def test_bounds(host: Host, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(module, bound, 1)
    if bound == "MAX_SECONDS":
        monkeypatch.setattr(module, bound, -1.0)
    assert host.run()
    assert host.past(None, GOOD).delivery_days <= 1
    monkeypatch.undo()
    assert host.run()
    assert host.past(None, GOOD).delivery_days <= 1


def test_a_damaged_archive_and_a_row_that_was_altered(host: Host) -> None:
    archive = host.log.with_name("mail.log.2.gz")
    status = archive.stat()
    archive.write_bytes(archive.read_bytes()[:40])
    os.utime(archive, (status.st_mtime, status.st_mtime))
    assert host.run()
    assert host.past(None, GOOD).delivery_days == 3
    store = Store.open(str(host.database))
    store._database.connection.execute("UPDATE backlog SET state = x'ff00'")
    store.close()
    assert host.run()
    assert host.past(None, GOOD).delivery_days == 3


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_without_a_log_there_is_nothing_to_read_yet(tmp_path: Path) -> None:
    async def story(check: Callable[[Backlog], None]) -> None:
        store = Store.open(":memory:")
        pipeline = Pipeline(Policy(), MX, store, None, Parser(UTC, time.time()))
        backlog = Backlog(pipeline, Logs(pipeline, lambda _: None), lambda: MX, now)
        await backlog.run()
        check(backlog)
        store.close()

    def waits(backlog: Backlog) -> None:
        assert not backlog.done

    asyncio.run(story(waits))
    assert list(tmp_path.iterdir()) == []
