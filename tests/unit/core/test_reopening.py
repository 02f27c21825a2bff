"""Going without the store and back, with real files."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.reopening import StoreFile, reopen
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

NOW = Moment(1_800_000_000.0, 5_000.0)
RULES = Ruleset({"mx": (25,)}, (), rate=1, per=60.0, burst=1, size=1000)
A, B, C = "198.51.100.7", "198.51.100.8", "198.51.100.9"


def ban(subject: str, seconds: float = 600.0, limit: str = "errors", level: int = 1) -> Decision:
    return Decision(NOW.wall, "ban", subject, "mx", limit, level, NOW.wall + seconds, limit)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "throttled" / "t.db")


@pytest.fixture
def pipeline(path: str) -> Iterator[Pipeline]:
    kernel = DryRun()
    kernel.setup(RULES)
    store = StoreFile(path).open()
    made = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, NOW.wall))
    yield made
    made.recorder.store.close()


def test_a_directory_is_made(path: str) -> None:
    file = StoreFile(path)
    store = file.open()
    assert file.error is None
    assert Path(path).exists()
    store.close()


def test_without_the_file_and_back(path: str, pipeline: Pipeline) -> None:
    pipeline.decide([ban(A, level=3), ban(B, 60)], NOW)
    pipeline.recorder.store.close()
    Path(path).rename(path + ".moved")
    Path(path).write_bytes(b"no database" * 100)
    file = StoreFile(path)
    pipeline.recorder.store = file.open()
    assert file.error is not None
    assert not file.reopen(pipeline, NOW)
    pipeline.decide([ban(A, 599, "adopted", 0), ban(B, 900), ban(C)], NOW)
    assert Path(path).read_bytes() == b"no database" * 100
    Path(path + ".moved").rename(path)
    assert file.reopen(pipeline, NOW)
    assert not file.reopen(pipeline, NOW)  # it is the right one
    rows = {row.subject: (row.limit, row.level, row.until) for row in store_of(path)}
    assert rows == {
        A: ("errors", 3, NOW.wall + 600),
        B: ("errors", 1, NOW.wall + 900),
        C: ("errors", 1, NOW.wall + 600),
    }


def store_of(path: str) -> list[Decision]:
    with_file = Store.open(path, readonly=True)
    try:
        return [
            Decision(r.since, r.action, r.subject, r.scope, r.limit, r.level, r.until, r.why)
            for r in with_file.listing.snapshots(NOW.wall)
        ]
    finally:
        with_file.close()


def test_a_file_that_vanished_is_made_anew(path: str, pipeline: Pipeline) -> None:
    pipeline.decide([ban(A)], NOW)
    assert not pipeline.recorder.store.gone()
    for left in Path(path).parent.iterdir():
        left.unlink()
    assert pipeline.recorder.store.gone()
    pipeline.decide([replace(ban(B), origin="peer:mx2", name="b.example")], NOW)
    assert pipeline.recorder.error is not None
    reopen(pipeline, path, NOW)
    rows = pipeline.recorder.store.listing.snapshots(NOW.wall)
    assert {row.subject: (row.origin, row.name) for row in rows} == {
        A: ("log", ""),
        B: ("peer:mx2", "b.example"),
    }
    assert not pipeline.recorder.store.gone()


def test_who_was_active_last_is_so_in_a_file_that_is_made_anew(
    path: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.recorder._PIECE", 1)
    for subject in (A, C, B):
        pipeline.decide([ban(subject)], NOW)
    for left in Path(path).parent.iterdir():
        left.unlink()
    reopen(pipeline, path, NOW)
    while pipeline.recorder.pending():
        pipeline.recorder.record(NOW)
    assert [decision.subject for decision in store_of(path)] == [B, C, A]


def test_who_was_unbanned_and_allowed_without_the_file_is_so_when_it_comes_back(
    path: str, pipeline: Pipeline
) -> None:
    pipeline.decide([ban(A), ban(B), ban(C, 900)], NOW)
    pipeline.recorder.store.close()
    pipeline.recorder.store = Store.open(":memory:")  # as after a start with a full disk
    later = Moment(NOW.wall + 10, NOW.boot + 10)
    pipeline.unban(A, "mx", later, later.wall + 3600)
    pipeline.unban(C, "mx", later)
    again = Decision(later.wall, "ban", C, "mx", "auth", 1, later.wall + 60, "again")
    pipeline.decide([again], later)
    pipeline.recorder.store.allowlist.allow(".example.com", 0.0, "", later.wall)
    reopen(pipeline, path, later)
    store = pipeline.recorder.store
    assert {(row.subject, row.limit) for row in store.listing.snapshots(later.wall)} == {
        (B, "errors"),
        (C, "auth"),
    }
    assert store.past([(A, "mx")], later.wall)[A, "mx"].exempt_until == later.wall + 3600
    assert [row.what for row in store.allowlist.entries(later.wall)] == [".example.com"]
