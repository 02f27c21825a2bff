"""Store and kernel brought together, with the dry-run backend for a kernel."""

import asyncio
from collections.abc import Iterator
from datetime import UTC

import pytest
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.restoring import adopt, restore
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import ACTIONS, Decision, Entry
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

NOW = Moment(1_800_000_000.0, 5_000.0)


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    store = Store.open(":memory:")
    backend = DryRun()
    backend.setup(Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 100_000))
    yield Pipeline(Policy(), Facts(), store, backend, Parser(UTC, NOW.wall))
    store.close()


def addresses(count: int, third: int = 0) -> list[str]:
    return [f"198.18.{third + number // 250}.{number % 250 + 1}" for number in range(count)]


def bans(subjects: list[str]) -> list[Decision]:
    return [Decision(NOW.wall, "ban", s, "mx", "errors", 1, NOW.wall + 600, "") for s in subjects]


def in_kernel(pipeline: Pipeline) -> set[str]:
    assert pipeline.enforcer.backend is not None
    return {element.subject for element in pipeline.enforcer.backend.dump()}


def run(pipeline: Pipeline) -> tuple[int, int]:
    backend = pipeline.enforcer.backend
    assert backend is not None

    async def both() -> tuple[int, int]:
        clock = lambda: NOW  # noqa: E731 - one word is clearer than a function here
        return await restore(pipeline, backend, clock), await adopt(pipeline, backend, clock)

    return asyncio.run(both())


def test_what_is_stored_and_not_in_the_kernel_is_applied(pipeline: Pipeline) -> None:
    subjects = addresses(2_500)
    pipeline.recorder.store.record(NOW.wall, bans(subjects))
    pipeline.enforcer.apply([Entry(subject, "mx", "ban", 600.0) for subject in subjects[:100]], NOW)
    assert run(pipeline) == (2_400, 0)
    assert in_kernel(pipeline) == set(subjects)
    assert run(pipeline) == (0, 0)


def test_an_empty_kernel_is_not_asked(pipeline: Pipeline) -> None:
    subjects = addresses(1_200)
    pipeline.recorder.store.record(NOW.wall, bans(subjects))
    backend = pipeline.enforcer.backend
    assert backend is not None
    assert asyncio.run(restore(pipeline, backend, lambda: NOW, frozenset({("mx", "ban")}))) == 1_200
    assert in_kernel(pipeline) == set(subjects)


def test_what_the_store_never_heard_of_is_adopted(pipeline: Pipeline) -> None:
    subjects = addresses(1_500)
    pipeline.enforcer.apply([Entry(subject, "mx", "ban", 600.0) for subject in subjects], NOW)
    assert run(pipeline) == (0, 1_500)
    (row,) = pipeline.recorder.store.decisions(subjects[7])
    assert (row.action, row.limit) == ("ban", "adopted")
    assert row.until == pytest.approx(NOW.wall + 600, abs=30)
    assert run(pipeline) == (0, 0)


def test_a_ban_that_became_a_throttle_is_removed(pipeline: Pipeline) -> None:
    throttle = replace(bans(["198.18.0.1"])[0], action="throttle")
    pipeline.recorder.store.record(NOW.wall, [throttle])
    pipeline.enforcer.apply([Entry("198.18.0.1", "mx", action, 600.0) for action in ACTIONS], NOW)
    assert run(pipeline) == (0, 2)
    assert pipeline.enforcer.backend is not None
    assert [element.action for element in pipeline.enforcer.backend.dump()] == ["throttle"]


def test_a_throttle_that_outlives_the_begin_of_a_ban_is_left_alone(pipeline: Pipeline) -> None:
    pipeline.recorder.store.record(NOW.wall, bans(["198.18.0.1"]))
    pipeline.enforcer.apply([Entry("198.18.0.1", "mx", action, 600.0) for action in ACTIONS], NOW)
    assert run(pipeline) == (0, 1)  # but no exemption
    assert pipeline.enforcer.backend is not None
    assert {element.action for element in pipeline.enforcer.backend.dump()} == {"ban", "throttle"}


def test_what_the_store_released_is_removed(pipeline: Pipeline) -> None:
    pipeline.recorder.store.record(NOW.wall, bans(["198.18.0.1", "198.18.0.2"]))
    pipeline.enforcer.apply([Entry(f"198.18.0.{n}", "mx", "ban", 600.0) for n in (1, 2)], NOW)
    pipeline.recorder.store.unbans.unban(
        "198.18.0.1", "mx", NOW.wall
    )  # and killed before the kernel heard
    assert run(pipeline) == (0, 1)
    assert in_kernel(pipeline) == {"198.18.0.2"}


def test_what_takes_long_is_put_in_force_for_the_time_that_is_left(pipeline: Pipeline) -> None:
    pipeline.recorder.store.record(
        NOW.wall, bans([f"198.18.{n >> 8}.{n & 255}" for n in range(1200)])
    )
    moments = iter(Moment(NOW.wall + n * 10, NOW.boot + n * 10) for n in range(100))
    assert pipeline.enforcer.backend is not None
    asyncio.run(restore(pipeline, pipeline.enforcer.backend, lambda: next(moments)))
    left = [element.seconds for element in pipeline.enforcer.backend.dump()]
    assert len(left) == 1200
    assert max(left) - min(left) > 20, "the later, the less"
