"""The guard over a kernel that reports nothing: what looking on a timer finds, and what it says."""

import asyncio
from collections.abc import Iterator
from datetime import UTC

import pytest
from msgspec.structs import replace

from lab.network.netns import DEADMAN
from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.core.reconciler import Reconciler
from throttled.enforce.backend import Drift, Fill, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.model import Decision, Entry
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

RULES = Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 20)
SUBJECTS = [f"198.18.0.{n}" for n in range(11, 21)]  # in the order in which they are stored


class Uncounted(DryRun):
    """A kernel that does not count its elements, as with XDP."""

    def fill(self) -> list[Fill]:
        return []


@pytest.fixture(params=[DryRun, Uncounted])
def guard(request: pytest.FixtureRequest) -> Iterator[Reconciler]:
    store = Store.open(":memory:")
    kernel = request.param()
    moment = now()
    pipeline = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, moment.wall))
    store.record(
        moment.wall,
        [Decision(moment.wall, "ban", s, "mx", "x", 1, moment.wall + 600, "") for s in SUBJECTS],
    )
    yield Reconciler(kernel, pipeline, lambda: RULES)
    store.close()


def in_kernel(guard: Reconciler) -> set[str]:
    return {element.subject for element in guard.backend.dump()}


async def settled(guard: Reconciler) -> None:
    async with asyncio.timeout(DEADMAN):
        while guard._task is not None and not guard._task.done():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.001)


def test_what_is_missing_is_found_by_looking(guard: Reconciler) -> None:
    async def story() -> None:
        guard.start()
        await settled(guard)
        assert in_kernel(guard) == set(SUBJECTS)
        guard.backend.apply([Entry(s, "mx", "ban", 0.0) for s in SUBJECTS])
        guard.tick(now())
        await settled(guard)
        assert len(guard.disturbed) == 1
        assert in_kernel(guard) == set(SUBJECTS)

    asyncio.run(story())


def test_rules_that_are_gone_are_found_by_looking(guard: Reconciler) -> None:
    async def story() -> None:
        guard.start()
        await settled(guard)
        guard.backend.teardown()
        guard.tick(now())
        await settled(guard)
        assert guard.backend.intact()
        assert in_kernel(guard) == set(SUBJECTS)

    asyncio.run(story())


def test_who_is_free_though_the_store_does_not_know_is_not_put_back(guard: Reconciler) -> None:
    guard.repair()
    moment = now()
    guard._pipeline.recorder.unbans.add([(SUBJECTS[0], "mx")], moment.wall)
    guard._judge([Entry(subject, "mx", "ban", 600.0) for subject in SUBJECTS])
    assert in_kernel(guard) == set(SUBJECTS[1:])


def test_what_happens_while_it_is_reconcile_is_not_lost(
    guard: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.restoring._PIECE", 2)

    async def story() -> None:
        guard.start()
        await asyncio.sleep(0)
        assert 0 < len(in_kernel(guard)) < len(SUBJECTS)
        assert guard.state.name == "STARTING"
        guard.backend.teardown()
        guard._reconcile(Drift(rules=True, lost=True))
        guard._reconcile(Drift(rules=True))
        assert guard.state.name == "LOST"  # until it was looked for
        await settled(guard)
        assert in_kernel(guard) == set(SUBJECTS)
        assert guard.state.name == "STEADY"
        assert await guard.begun()

    asyncio.run(story())


def test_a_comparison_that_fails_leaves_the_kernel_unknown(
    guard: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        guard.start()
        await settled(guard)

        def fails(_moment: object) -> bool:
            raise StoreError("cannot be read", "wait")

        with monkeypatch.context() as patch:
            patch.setattr(guard.sampler, "lacks", fails)
            guard.compare()
            await settled(guard)
        assert guard.state.name == "UNKNOWN"
        assert not await guard.begun()
        guard.compare()
        await settled(guard)
        assert guard.state.name == "STEADY"

    asyncio.run(story())


def test_a_backend_that_cannot_refuse_is_reported(
    guard: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        ruleset = guard._ruleset()
        monkeypatch.setattr(guard, "_ruleset", lambda: replace(ruleset, reject=True))
        guard.start()
        await settled(guard)
        assert guard.findings(1000.0) == []
        monkeypatch.setattr(type(guard.backend), "refuses", False)
        (finding,) = guard.findings(1000.0)
        assert (finding.state, finding.key) == ("warning", "cannot-refuse")
        assert guard.backend.name in finding.what
        monkeypatch.setattr(guard, "_ruleset", lambda: ruleset)
        guard.repair()
        assert guard.findings(1000.0) == []

    asyncio.run(story())


def test_full_sets_and_frequent_drift_are_reported(guard: Reconciler) -> None:
    async def story() -> None:
        guard.start()
        await settled(guard)
        assert guard.findings(1000.0) == []
        many = [Entry(f"198.18.1.{n}", "mx", "ban", 60.0) for n in range(1, 30)]
        guard._pipeline.enforcer.apply(many, now())
        (finding,) = guard.findings(1000.0)
        assert (finding.state, finding.key) == ("fault", "set-full:mx_ban")
        assert finding.what == "the set mx_ban is full: 19 mx bans do not fit"
        guard.disturbed.extend([990.0, 995.0, 999.0])
        assert guard.findings(1000.0)[-1].key == "firewall-disturbed"
        assert "firewall-disturbed" not in [p.key for p in guard.findings(2000.0)]

    asyncio.run(story())


def test_a_full_set_is_not_compared_again_and_again(guard: Reconciler) -> None:
    async def story() -> None:
        moment = now()
        more = [f"198.18.2.{n}" for n in range(1, 30)]
        guard._pipeline.recorder.store.record(
            moment.wall,
            [Decision(moment.wall, "ban", s, "mx", "x", 1, moment.wall + 600, "") for s in more],
        )
        guard.start()
        await settled(guard)
        enforced, counted = guard.sampler.enforced({("mx", "ban"): 39})
        assert enforced == 20
        assert counted is not isinstance(guard.backend, Uncounted)
        before = len(guard.disturbed)
        for later in (20.0, 40.0, 60.0):
            guard.tick(Moment(moment.wall, moment.boot + later))
            await settled(guard)
            assert guard.sampler.enforced({("mx", "ban"): 39})[0] == 20
        assert len(guard.disturbed) <= before + 1

    asyncio.run(story())


def test_what_is_missing_again_and_again_is_reported_until_it_is_there(guard: Reconciler) -> None:
    async def story() -> None:
        guard.start()
        await settled(guard)
        moment = now()
        # The latest: a sample of so few begins before them, wherever it begins.
        for look, reported in ((1, False), (2, True), (3, True)):
            guard.backend.apply([Entry(s, "mx", "ban", 0.0) for s in SUBJECTS[-3:]])
            guard.tick(Moment(moment.wall, moment.boot + 20.0 * look))
            await settled(guard)
            assert ("kernel-lacks" in [p.key for p in guard.findings(0.0)]) is reported
        assert "lacks 3 elements" in guard.findings(0.0)[0].what
        guard.tick(Moment(moment.wall, moment.boot + 80.0))
        await settled(guard)
        assert guard.findings(0.0) == []

    asyncio.run(story())


def test_what_lasts_too_long_after_a_sleep_is_removed(
    guard: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is stored ended while the machine was suspended, and the kernel's clock stood."""

    async def story() -> None:
        guard.start()
        await settled(guard)
        moment = now()
        past = [
            Decision(moment.wall - 900, "ban", s, "mx", "x", 1, moment.wall - 300, "")
            for s in SUBJECTS
        ]
        guard._pipeline.recorder.store.record(moment.wall, past)
        monkeypatch.setattr("throttled.core.reconciler.slept", lambda: 1e6)
        guard.tick(moment)
        await settled(guard)
        assert in_kernel(guard) == set()
        before = len(guard.disturbed)
        guard.tick(moment)
        await settled(guard)
        assert len(guard.disturbed) == before

    asyncio.run(story())


def test_what_a_deleted_table_had_dropped_goes_on_counting(
    guard: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((10, 25, 0, 7, 3))
    monkeypatch.setattr(guard.backend, "dropped", lambda: next(counts))
    assert [guard.dropped() for _ in range(5)] == [10, 25, 25, 32, 35]
