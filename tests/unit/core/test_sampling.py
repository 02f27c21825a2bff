"""Samples of a kernel that counts its elements, and of one that does not."""

from collections.abc import Iterator
from datetime import UTC

import pytest

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.sampling import Sampler
from throttled.enforce.backend import Fill, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import Decision, Entry
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

NOW = Moment(1_800_000_000.0, 5_000.0)
RULES = Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 20)
SUBJECTS = [f"198.18.0.{n}" for n in range(11, 21)]


class Uncounted(DryRun):
    """A kernel that does not count its elements, as with XDP."""

    def fill(self) -> list[Fill]:
        return []


@pytest.fixture(params=[DryRun, Uncounted])
def kernel(request: pytest.FixtureRequest) -> DryRun:
    made: DryRun = request.param()
    made.setup(RULES)
    return made


@pytest.fixture
def sampler(kernel: DryRun) -> Iterator[Sampler]:
    store = Store.open(":memory:")
    pipeline = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, NOW.wall))
    until = NOW.wall + 600
    decided = [Decision(NOW.wall, "ban", s, "mx", "x", 1, until, "") for s in SUBJECTS]
    pipeline.decide(decided, NOW)
    yield Sampler(kernel, pipeline)
    store.close()


def test_nothing_is_enforced_without_rules(kernel: DryRun, sampler: Sampler) -> None:
    assert sampler.enforced({("mx", "ban"): 10})[0] == 10
    kernel.teardown()
    assert sampler.enforced({("mx", "ban"): 10}) == (0, True)


def test_what_a_sample_misses_is_restored_and_reported_when_it_happens_again(
    kernel: DryRun, sampler: Sampler
) -> None:
    assert not sampler.check(NOW)
    for keys in ([], ["kernel-lacks"]):
        kernel.apply([Entry(subject, "mx", "ban", 0.0) for subject in SUBJECTS])
        assert sampler.check(NOW)
        assert {element.subject for element in kernel.dump()} <= set(SUBJECTS)
        assert [finding.key for finding in sampler.findings()] == keys
    for _ in range(100):  # a sample restores what it looked up
        sampler.check(NOW)
    assert {element.subject for element in kernel.dump()} == set(SUBJECTS)
    assert sampler.findings() == []
