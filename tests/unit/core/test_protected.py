"""What becomes protected after it was banned is unbanned, in pieces."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path

import pytest

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.decide.protect import Protection
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts
from throttled.model import Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

RULES = Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 1_000_000)
WALL = 1_700_000_000.0
NOW = Moment(WALL, 50.0)


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    backend = DryRun()
    backend.setup(RULES)
    store = Store.open(str(tmp_path / "t.db"))
    yield Pipeline(Policy(), Facts(), store, backend, Parser(UTC, WALL))
    store.close()


def ban(pipeline: Pipeline, subjects: Sequence[str]) -> None:
    bans = [Decision(WALL, "ban", s, "mx", "auth", 1, WALL + 900, "") for s in subjects]
    pipeline.decide(bans, NOW)


def left(pipeline: Pipeline) -> set[str]:
    listed = {row.subject for row in pipeline.recorder.store.listing.snapshots(WALL, count=10_000)}
    assert pipeline.enforcer.backend is not None
    assert listed == {element.subject for element in pipeline.enforcer.backend.dump()}
    return listed


def protect(pipeline: Pipeline, *networks: str, facts: Facts | None = None) -> Protection:
    protection = Protection(facts or Facts(), networks=networks)
    pipeline.reconfigure(pipeline.ladder.policy, protection)
    return protection


@pytest.mark.parametrize(
    ("network", "inside", "others"),
    [
        ("198.51.100.7", ["198.51.100.7"], ["198.51.100.70", "198.51.100.0/24"]),
        (
            "198.51.100.0/22",
            ["198.51.100.7", "198.51.103.255", "198.51.102.0/24"],
            ["198.51.104.1", "198.51.0.0/16", "2001:db8::1"],
        ),
        ("2001:db8::/32", ["2001:db8::1", "2001:db8:1::/48"], ["2001:db9::1", "20.1.0.1"]),
        ("fd00::/8", ["fd12::1", "fd00::/64"], ["fc12::1", "f::1"]),
        ("::/8", ["f::1"], ["f00::1"]),
        ("0.0.0.0/0", ["198.51.100.7", "8.0.0.0/8"], ["2001:db8::1"]),
    ],
)
def test_it_and_all_inside_it_and_nothing_else(
    pipeline: Pipeline, network: str, inside: list[str], others: list[str]
) -> None:
    async def story() -> None:
        ban(pipeline, [*inside, *others])
        reported: list[Decision] = []
        protected = Protected(pipeline, reported.extend, lambda: NOW)
        protected.follow(protect(pipeline, network))
        assert await protected.settled()
        assert left(pipeline) == set(others)
        assert {d.subject for d in reported} == set(inside)
        assert reported[0].why == "protected: allowed by the operator"
        assert pipeline.recorder.store.decisions(inside[0], 1)[0].limit == "protected"

    asyncio.run(story())


def test_facts_count_too_and_what_is_protected_no_longer_stays(pipeline: Pipeline) -> None:
    async def story() -> None:
        protected = Protected(pipeline, lambda _decisions: None, lambda: NOW)
        protected.follow(protect(pipeline, "203.0.113.0/24"))
        protected.follow(protect(pipeline, facts=Facts(mynetworks=("198.51.100.0/24",))))
        assert await protected.settled()
        ban(pipeline, ["203.0.113.1", "198.51.100.7"])
        protected.follow(protect(pipeline, facts=Facts(mynetworks=("198.51.100.0/24",))))
        assert await protected.settled()
        assert left(pipeline) == {"203.0.113.1", "198.51.100.7"}  # looked at already
        protected.again()
        protected.tick()
        assert await protected.settled()
        assert left(pipeline) == {"203.0.113.1"}

    asyncio.run(story())


def test_it_waits_for_a_store_that_fails_and_goes_on_by_itself(pipeline: Pipeline) -> None:
    async def story() -> None:
        query_only = pipeline.recorder.store._database.connection.execute
        protected = Protected(pipeline, lambda _decisions: None, lambda: NOW)
        ban(pipeline, ["198.51.100.7"])
        query_only("PRAGMA query_only = 1")
        ban(pipeline, ["198.51.100.8"])
        assert pipeline.recorder.pending() == 1
        protected.follow(protect(pipeline, "198.51.100.0/24"))
        assert not await protected.settled()
        query_only("PRAGMA query_only = 0")
        pipeline.recorder.record(Moment(WALL + 2, 52.0))
        protected.tick()
        assert await protected.settled()
        assert left(pipeline) == set()

    asyncio.run(story())


def test_a_client_unbanned_so_can_be_banned_again(pipeline: Pipeline) -> None:
    async def story() -> None:
        ban(pipeline, ["198.51.100.7"])
        protected = Protected(pipeline, lambda _decisions: None, lambda: NOW)
        protected.follow(protect(pipeline, "198.51.100.7"))
        await protected.settled()
        protect(pipeline)
        said = "warning: non-SMTP command from unknown[198.51.100.7]: GET /"
        lines = [f"Nov 14 22:13:20 mx postfix/smtpd[{pid}]: {said}" for pid in range(1, 51)]
        pipeline.counting.read(lines, range(50), NOW)
        assert [d.action for d in pipeline.settle(NOW)[0]] == ["ban"]

    asyncio.run(story())


def test_many_do_not_hold_the_loop_up(pipeline: Pipeline) -> None:
    """In instructions of SQLite's virtual machine, which grow with the rows of a piece."""

    async def story() -> None:
        ban(pipeline, [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(20_000)])
        protected = Protected(pipeline, lambda _decisions: None, lambda: NOW)
        protected.follow(protect(pipeline, "10.0.0.0/8"))
        task = asyncio.create_task(protected.settled())
        steps, done = itertools.count(), [0]
        pipeline.recorder.store._database.connection.set_progress_handler(
            lambda: next(steps) < 0, 10
        )
        while not task.done():
            await asyncio.sleep(0)
            done.append(next(steps))
        assert left(pipeline) == set()
        assert max(b - a for a, b in itertools.pairwise(done)) < done[-1] / 100

    asyncio.run(story())
