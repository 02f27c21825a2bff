"""Logs that fail and recover: real files, the real tails and pipeline, a loop of its own."""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from lab.machine.limits import no_descriptors
from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.health.logs import LogReporter
from throttled.log_paths import JOURNAL
from throttled.sources.logs import Logs
from throttled.store.store import StoredPosition
from throttled.tail import file
from throttled.tail.position import Position

LINE = "Nov 22 10:00:01 mx postfix/smtpd[7]: connect from unknown[198.51.100.7]\n"


@pytest.fixture
def iterate() -> Iterator[Callable[..., None]]:
    """Run a function in a loop, and what it leaves to be done at once."""

    async def one(function: Callable[..., None], *arguments: object) -> None:
        function(*arguments)
        for _ in range(5):
            await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        yield lambda *what: runner.run(one(*what or (int,)))


@pytest.fixture
def logs(pipeline: Pipeline, iterate: Callable[..., None]) -> Iterator[Logs]:
    made = Logs(pipeline, lambda _: None)
    yield made
    iterate(made.close)


def keys(logs: Logs, pipeline: Pipeline) -> list[str]:
    health = LogReporter(logs, pipeline)
    return [finding.key for finding in health(now().boot)]


def append(path: Path, count: int) -> None:
    with path.open("a") as opened:
        opened.write(LINE * count)


def test_no_descriptor_at_a_rotation(
    logs: Logs,
    pipeline: Pipeline,
    log: Path,
    iterate: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing happens in the directory afterwards: the daemon's timer has it read."""
    append(log, 3)
    iterate(logs.follow, [str(log)])
    log.rename(log.with_name("mail.log.1"))
    append(log, 2)
    with no_descriptors():
        iterate()
        assert keys(logs, pipeline) == [f"log-unread:{log}"]
    iterate(logs.tick, now())
    assert keys(logs, pipeline) == [f"log-unread:{log}"]
    later = time.monotonic() + 60.0
    monkeypatch.setattr(file, "monotonic", lambda: later)
    iterate(logs.tick, now())
    assert pipeline.counts.lines == 2
    assert keys(logs, pipeline) == []


def test_no_inotify_instance_at_a_start(
    logs: Logs, pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    append(log, 3)
    with no_descriptors():
        iterate(logs.follow, [str(log)])
        assert keys(logs, pipeline) == [f"log-unread:{log}", "no-log"]
        iterate(logs.tick, now())  # not yet
    logs._retries[str(log)]._next = 0.0
    iterate(logs.tick, now())
    assert keys(logs, pipeline) == []
    append(log, 2)
    iterate()
    assert pipeline.counts.lines == 2


def test_a_tail_that_raises_what_no_one_foresaw(
    logs: Logs,
    pipeline: Pipeline,
    log: Path,
    iterate: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not tried at each iteration of the event loop, so others get the processor."""
    append(log, 1)
    other = log.with_name("other.log")
    iterate(logs.follow, [str(log), str(other)])
    tail = logs.followers[0].tail
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("hostile \x1b[31m")

    with monkeypatch.context() as patch:
        patch.setattr(tail, "read", fail)
        append(log, 1)
        append(other, 5)
        for _ in range(10):
            iterate()
        assert len(calls) == 1
        assert pipeline.counts.lines == 5
        assert keys(logs, pipeline) == [f"log-unread:{log}"]
        assert pipeline.skipped.counts == {"log": 1}
        iterate(logs.tick, now())
        assert len(calls) == 2
    iterate(logs.tick, now())
    assert pipeline.counts.lines == 6
    assert keys(logs, pipeline) == []
    append(log, 1)
    iterate()
    assert pipeline.counts.lines == 7


def test_a_report_that_raises_stops_no_log(
    pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    def fail(_: object) -> None:
        raise ValueError("report")

    logs = Logs(pipeline, fail)
    iterate(logs.follow, [str(log)])
    append(log, 10_000)  # several batches
    for _ in range(50):
        iterate()
    assert pipeline.counts.lines == 10_000
    iterate(logs.close)


@pytest.mark.parametrize(
    "saved",
    [
        b"",
        b"\xff",
        Position("LOG", 0, 0, -1, b""),
        Position("LOG", 0, 0, 1 << 63, b""),
        Position("LOG", 1, 1, 1, b"", (Position("LOG", 0, 0, -7, b""),)),
        Position("LOG", (1 << 64) - 1, (1 << 64) - 1, (1 << 63) - 1, b"\xff" * 40, (), b"\xff"),
        Position("\0", 1, 1, 1, b""),
        msgpack.encode({"path": [], "offset": "1"}),
    ],
)
@pytest.mark.parametrize("journal", [False, True])
def test_a_saved_position_that_is_none(  # noqa: PLR0913
    logs: Logs,
    pipeline: Pipeline,
    log: Path,
    iterate: Callable[..., None],
    saved: bytes | Position,
    *,
    journal: bool,
) -> None:
    path = JOURNAL if journal else str(log)
    if isinstance(saved, Position):
        older = tuple(replace(one, path=path) for one in saved.older)
        place = saved.path.replace("LOG", path)
        state = msgpack.encode(replace(saved, path=place, older=older))
    else:
        state = saved
    if journal:
        pipeline.recorder.store.record(1.0, (), (), [StoredPosition(JOURNAL, state)])
        iterate(logs.follow, [JOURNAL, str(log)])
    append(log, 3)
    pipeline.recorder.store.record(1.0, (), (), [StoredPosition(str(log), state)])
    iterate(logs.follow, [str(log)])
    before = pipeline.counts.lines
    append(log, 2)
    iterate()
    assert pipeline.counts.lines == before + 2


def test_what_was_before_the_restart_cannot_be_read(  # noqa: PLR0913, PLR0917
    logs: Logs,
    pipeline: Pipeline,
    log: Path,
    iterate: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    append(log, 3)
    iterate(logs.follow, [str(log)])
    iterate(logs.follow, [])
    logs._counted.clear()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("throttled.sources.logs.before", fail)
    iterate(logs.follow, [str(log)])
    assert "Input/output error" in caplog.text
    append(log, 2)
    iterate()
    assert pipeline.counts.lines == 2


def test_senders_that_cross_a_limit_are_reported(
    pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    found: list[str] = []
    logs = Logs(pipeline, lambda _: None, lambda reports: found.extend(r.limit for r in reports))
    head = LINE.partition("postfix")[0] + "postfix"
    iterate(logs.follow, [str(log)])
    with log.open("a") as opened:
        login = "client=x[203.0.113.7], sasl_method=LOGIN, sasl_username=a"
        opened.write(f"{head}/smtpd[1]: 3A5C01F2B: {login}\n")
        opened.writelines(
            f"{head}/smtp[3]: 3A5C01F2B: to=<{n}@example.net>, relay=none, delay=1, "
            "delays=0/0/0/1, dsn=5.1.1, status=bounced (no such user)\n"
            for n in range(11)
        )
    iterate()
    assert found == ["account-bounces"]
    iterate(logs.close)
