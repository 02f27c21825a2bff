"""The caps of docs/reliability.md with small numbers: what is kept, what goes, and who says so."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from throttled.cli import text as shown
from throttled.clock import Moment
from throttled.control.results import StatusResult, TailStatus
from throttled.core.pipeline import Pipeline
from throttled.enforce.backend import Applied, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError, StoreError
from throttled.facts import Facts
from throttled.health.growth import Growth
from throttled.model import Decision, Entry
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store
from throttled.tail.file import FileTail
from throttled.tail.lines import MAX_LINE

NOW = Moment(1_796_000_000.0, 5_000.0)
STAMP = "2026-11-30T00:53:20+00:00 mx postfix/smtpd[7]:"


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    store = Store.open(":memory:")
    kernel = DryRun()
    kernel.setup(Ruleset({"mx": (25,), "submission": ()}, (), 10, 60.0, 10, 100))
    yield Pipeline(Policy(max_clients=1000), Facts(), store, kernel, Parser(UTC, NOW.wall))
    store.close()


def decisions(first: int, count: int) -> list[Decision]:
    return [
        Decision(NOW.wall, "ban", f"198.18.0.{n}", "mx", "errors", 1, NOW.wall + 600, "")
        for n in range(first, first + count)
    ]


def test_clients(pipeline: Pipeline) -> None:
    bodies = ("connect from x[{}]", "warning: non-SMTP command from x[{}]: GET /")
    for number in range(20_000):
        client = f"2001:db8:{number:x}::1"
        pipeline.counting.read([f"{STAMP} {body.format(client)}" for body in bodies], [0, 0], NOW)
    sizes = pipeline.engine.sizes()
    assert sizes["clients"] <= 1000
    assert sizes["dropped"] >= 2 * 19_000
    assert all(meter.value for meter in pipeline.engine.meters(client, NOW.boot)[:2])


def test_sessions(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.decide.streams._SESSIONS", 100)
    for pid in range(5_000):
        line = f"{STAMP} warning: non-SMTP command from x[198.18.0.{pid % 250}]: GET /"
        pipeline.counting.read([line.replace("[7]", f"[{pid}]")], [0], NOW)
    assert pipeline.engine.sizes() | {"clients": 0} == {
        "clients": 0,
        "sessions": 100,
        "dropped": 4_900,
    }
    assert pipeline.engine.sessions(f"198.18.0.{4_999 % 250}") == 1
    assert pipeline.engine.sessions(f"198.18.0.{4_899 % 250}") == 0


def test_decisions_and_evidence_that_wait_for_the_store(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.recorder._PENDING", 30)

    def full(*_: object) -> None:
        raise StoreError("no space left", "free some")

    # The real faults are in tests/system/test_store.py.
    with monkeypatch.context() as failing:
        failing.setattr(pipeline.recorder.store, "record", full)
        pipeline.recorder.record(NOW, decisions(0, 20))
        pipeline.recorder.record(NOW, decisions(20, 20))
        for number in range(40):
            client = f"198.18.1.{number}"
            line = f"disconnect from x[{client}] ehlo=1 mail=1 rcpt=1 data=1 commands=4"
            pipeline.counting.read([f"{STAMP} {line}"], [0], NOW)
        pipeline.settle(NOW)
        pipeline.recorder.record(NOW, positions=())
        assert (pipeline.recorder.pending(), pipeline.recorder.given_up) == (30, 20)
    pipeline.recorder.record(Moment(NOW.wall + 2, NOW.boot + 2), positions=())
    assert pipeline.recorder.store.active.counts(NOW.wall)["mx", "ban"] == 30
    assert not pipeline.recorder.store.decisions("198.18.0.9")
    assert pipeline.recorder.store.decisions("198.18.0.10")
    good = pipeline.recorder.store.past([(f"198.18.1.{n}", "mx") for n in (9, 10)], NOW.wall)
    assert [past.deliveries for past in good.values()] == [0, 1]


def test_elements_that_wait_for_the_kernel(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.enforcer._PENDING", 30)

    def refuses(_entries: object) -> Applied:
        raise BackendError("gone", "wait")

    # It refuses really in tests/kernel/test_repair.py.
    monkeypatch.setattr(pipeline.enforcer.backend, "apply", refuses)
    pipeline.enforcer.apply([Entry(f"198.18.0.{n}", "mx", "ban", 600.0) for n in range(40)], NOW)
    assert (pipeline.enforcer.pending(), pipeline.enforcer.given_up) == (30, 10)


def test_elements_of_a_set(pipeline: Pipeline) -> None:
    pipeline.decide(decisions(0, 150), NOW)
    assert pipeline.enforcer.backend
    assert sum(fill.used for fill in pipeline.enforcer.backend.fill()) == 100
    assert sum(pipeline.recorder.store.active.counts(NOW.wall).values()) == 150
    assert pipeline.errors() == 50


def test_the_longest_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    connect = f"{STAMP} connect from x[198.18.0.1]\n"
    path.write_text(f"{'x' * 1_000_000}\n{connect}{'y' * 3_000_000}\n{connect}")
    tail = FileTail(str(path), None, from_start=True)
    lines: list[str] = []
    while batch := tail.read():
        lines += batch.lines
    assert [len(line) for line in lines] == [MAX_LINE, len(connect) - 1] * 2
    assert tail.state().over_long == 2
    tail.close()


def test_status_reports_each() -> None:
    status = StatusResult(
        "0", "nftables", "enforce", 1, 0.0, 0.0,
        [TailStatus("/log", exists=True, lag=0, lines=9, lines_per_second=0.0, last_line=0.0,
                    cut=2)],
        1000, 1000, {}, {}, 0, 150, 100, True, [], {}, 9, 0, 50,
        forgotten=38_000, unrecorded=30, unapplied=29, let_go=20,
    )  # fmt: skip
    text = "\n".join(shown.status(status))
    for words in (
        "2 lines were too long and truncated",
        "38,000 counters evicted early",
        "30 decisions not yet recorded",
        "29 elements not yet in the kernel",
        "20 pending decisions or elements were dropped",
        "has 100 of 150 elements",
    ):
        assert words in text


def test_what_only_happened_is_reported_for_ten_minutes() -> None:
    growth = Growth()
    assert not growth.lately(0, 100.0)
    assert growth.lately(5, 200.0)
    assert growth.lately(5, 799.0)
    assert not growth.lately(5, 801.0)
    assert growth.lately(6, 802.0)
    assert not growth.lately(0, 2000.0)  # other tables
    assert growth.lately(1, 2001.0)
