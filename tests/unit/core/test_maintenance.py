"""What time does, with a clock that the test sets, the real SQLite and a kernel that remembers."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC

import pytest

from throttled.clock import Moment
from throttled.core import maintenance as upkeep
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.decide.client_peaks import noted
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError, StoreError
from throttled.facts import Facts
from throttled.model import (
    Action,
    Decision,
    Entry,
    Event,
    Message,
    Report,
    SenderDay,
    Snapshot,
)
from throttled.notify.journal import SHOWN
from throttled.parse.parser import Parser
from throttled.settings import Accounts, Policy
from throttled.store.store import Store

DAY = 86400.0
A = "198.51.100.7"
RULES = Ruleset({"mx": (25,)}, (), rate=1, per=60.0, burst=1, size=1000)


class World:
    """A daemon's rooms, and both clocks."""

    def __init__(self) -> None:
        self.moment = Moment(1_800_000_000.0, 5_000.0)
        self.store = Store.open(":memory:")
        self.kernel = DryRun(lambda: self.moment.boot)
        self.kernel.setup(RULES)
        parser = Parser(UTC, self.moment.wall)
        self.pipeline = Pipeline(Policy(), Facts(), self.store, self.kernel, parser)
        self.ended: list[tuple[list[tuple[str, str]], int]] = []
        self.booted = "once"
        self.upkeep = self.another()

    def another(self) -> Maintenance:
        """Another process."""

        def ended(ended: Sequence[tuple[Snapshot, Decision]], count: int) -> None:
            self.ended.append(([(row.action, then.action) for row, then in ended], count))

        return Maintenance(self.pipeline, lambda: self.moment, ended, self.booted)

    def ban(self, subject: str = A, seconds: float = 3600.0) -> None:
        wall = self.moment.wall
        decision = Decision(wall, "ban", subject, "mx", "errors", 1, wall + seconds, "because")
        self.pipeline.decide([decision], self.moment)

    def wait(self, seconds: float) -> None:
        self.moment = Moment(self.moment.wall + seconds, self.moment.boot + seconds)
        asyncio.run(self.upkeep.run())

    def set_clock(self, by: float) -> None:
        self.moment = Moment(self.moment.wall + by, self.moment.boot)

    def in_store(self) -> dict[str, float]:
        found = self.store.active.entries(self.moment.wall)
        return {entry.action: round(entry.seconds) for chunk in found for entry in chunk}

    def in_kernel(self) -> dict[str, float]:
        wanted = [Entry(A, "mx", "ban", 0.0), Entry(A, "mx", "throttle", 0.0)]
        return {element.action: round(element.seconds) for element in self.kernel.lookup(wanted)}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.store.close()


def test_a_ban_ends_in_a_throttle_and_that_in_nothing(world: World) -> None:
    world.ban()
    world.wait(3600)
    assert world.in_store() == world.in_kernel() == {"throttle": 600}
    world.wait(600)
    assert world.in_store() == world.in_kernel() == {}
    assert [d.action for d in world.store.decisions(A)] == ["release", "throttle", "ban"]
    assert world.ended == [([("ban", "throttle")], 1), ([("throttle", "release")], 1)]


@pytest.mark.parametrize("action", ["ban", "throttle"])
def test_what_a_list_names_is_active_again_after_a_shorter_own_ban(
    world: World, action: Action
) -> None:
    wall = world.moment.wall
    what = "operator", 0, wall + 7200, "SBL1"
    listed = Decision(wall, action, A, "mx", *what, origin="list:drop")
    world.pipeline.decide([listed], world.moment)
    world.ban()
    world.wait(3600)
    assert world.in_store() == {action: 3600}
    assert world.in_kernel() == {"throttle": 600} | {action: 3600}
    world.wait(600)
    assert world.in_store() == world.in_kernel() == {action: 3000}
    (row,) = world.store.listing.snapshots(world.moment.wall)
    assert (row.origin, row.why) == ("list:drop", "SBL1")
    world.wait(3000)
    assert world.in_store() == world.in_kernel() == {}


def test_of_many_ends_the_first_are_reported_and_all_counted(world: World) -> None:
    for number in range(1100):
        world.ban(f"198.18.{number // 250}.{number % 250}")
    world.wait(3600)
    ((first, count),) = world.ended
    assert (first, count) == ([("ban", "throttle")] * SHOWN, 1100)


def test_nothing_expires_while_the_store_fails(world: World) -> None:
    world.ban()
    world.pipeline.recorder.error = StoreError("the disk is full", "make room")
    world.wait(3700)
    assert [d.action for d in world.store.decisions(A)] == ["ban"]
    world.pipeline.recorder.error = None
    world.wait(0)
    assert world.in_store() == {"throttle": 500}


@pytest.mark.parametrize(("stopped", "left"), [(3900.0, {"throttle": 300}), (9000.0, {})])
def test_what_expired_while_no_daemon_ran(
    world: World, stopped: float, left: dict[str, float]
) -> None:
    world.ban()
    world.moment = Moment(world.moment.wall + stopped, world.moment.boot + stopped)
    world.upkeep = world.another()  # another process
    world.wait(1)
    assert world.in_store() == world.in_kernel() == {k: s - 1 for k, s in left.items()}


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_a_clock_that_is_set_ends_nothing_and_lengthens_nothing(world: World, by: float) -> None:
    world.ban()
    world.wait(600)
    world.set_clock(by)
    world.wait(1)
    assert world.in_store() == world.in_kernel() == {"ban": 2999}
    world.ban("198.51.100.8")
    world.wait(2998)
    assert world.in_kernel() == {"ban": 1}
    world.wait(1)
    assert world.in_store() == {"ban": 601, "throttle": 600}
    assert world.in_kernel() == {"throttle": 600}


def test_a_clock_set_there_and_back(world: World) -> None:
    world.ban()
    for by in (DAY, -2 * DAY, DAY):
        world.set_clock(by)
        world.wait(10)
    assert world.in_store() == world.in_kernel() == {"ban": 3570}


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_a_clock_that_is_set_while_stopped(world: World, by: float) -> None:
    world.ban()
    world.wait(600)
    world.set_clock(by)
    world.upkeep = world.another()
    assert not world.upkeep.steady(world.moment)
    asyncio.run(world.upkeep.follow_clock())
    assert world.in_store() == world.in_kernel() == {"ban": 3000}
    for _ in range(2):
        world.upkeep = world.another()  # nothing is moved twice
        world.wait(1)
    assert world.in_store() == world.in_kernel() == {"ban": 2998}
    world.upkeep = world.another()
    world.wait(2998)
    assert world.in_store() == world.in_kernel() == {"throttle": 600}


def test_what_ended_before_the_clock_was_set_back_does_not_begin_again(world: World) -> None:
    world.ban(seconds=60)
    world.moment = Moment(world.moment.wall + 61, world.moment.boot + 61)
    world.set_clock(-DAY)
    world.wait(0)
    assert world.in_store() == world.in_kernel() == {"throttle": 599}


def test_a_machine_that_was_booted_has_another_clock(world: World) -> None:
    world.ban()
    world.wait(1)
    world.booted = "twice"
    world.moment = Moment(world.moment.wall + 600, 10.0)
    world.upkeep = world.another()
    world.wait(0)
    assert world.in_store() == {"ban": 2999}
    world.store.known.put("clock", b"\xc1", world.moment.wall)  # altered
    world.set_clock(DAY)
    assert world.another().steady(world.moment)


def test_a_killed_move_is_not_begun_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_PIECE", 1)
    for subject in (A, "198.51.100.8"):
        world.ban(subject)
    world.wait(0)
    world.set_clock(DAY)

    async def killed() -> None:
        running = asyncio.create_task(world.upkeep.run())
        await asyncio.sleep(0)  # one is moved
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(killed())
    world.upkeep = world.another()
    asyncio.run(world.upkeep.follow_clock())
    ends = {row.subject: row.until for row in world.store.listing.snapshots(0.0)}
    assert [round(ends[s] - world.moment.wall) for s in (A, "198.51.100.8")] == [3600, 3600 - DAY]


def test_a_clock_that_was_wrong_at_the_start(world: World) -> None:
    """A board without a clock boots in 1970, adopts the bans of yesterday, then asks NTP."""
    world.ban(seconds=7200)
    world.moment = Moment(1000.0, 10.0)
    world.upkeep = world.another()
    world.wait(1)
    assert world.in_store() == {"ban": 7200}
    world.moment = Moment(1_800_003_600.0, 20.0)
    world.wait(1)
    assert world.in_store() == {"ban": 3599}


def test_a_slewed_clock_is_followed(world: World) -> None:
    world.ban()
    for _ in range(10):
        world.set_clock(0.5)
        world.wait(1)
    assert world.in_store() == {"ban": 3585}


def test_a_clock_jump_while_bans_expire_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_PIECE", 1)
    world.ban("198.51.100.8", 10)
    world.ban(seconds=20)

    async def both() -> None:
        world.moment = Moment(world.moment.wall + 30, world.moment.boot + 30)
        running = asyncio.create_task(world.upkeep.run())
        await asyncio.sleep(0)
        world.set_clock(DAY)
        await running

    asyncio.run(both())
    assert [d.action for d in world.store.decisions(A)] == ["ban"], "left for the next time"


def test_all_of_many_are_moved_and_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_PIECE", 7)
    for number in range(50):
        world.ban(f"198.18.0.{number}", 60)
    world.set_clock(DAY)
    world.wait(59)
    assert sum(world.store.active.counts(world.moment.wall).values()) == 50
    world.wait(1)
    assert world.store.active.counts(world.moment.wall)["mx", "ban"] == 0
    assert world.store.active.counts(world.moment.wall)["mx", "throttle"] == 50


def test_nothing_is_deleted_soon_after_a_long_jump(world: World) -> None:
    world.ban(seconds=60)
    world.set_clock(200 * DAY)
    for hours in range(1, 30):
        world.wait(3600)
        kept = len(world.store.decisions(A)) > 1
        assert kept == (hours <= 26)


def test_a_store_that_fails_waits_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_args: object) -> None:
        raise StoreError("the database is damaged", "move it away")

    # Real damage: tests/system/test_store.py.
    with monkeypatch.context() as patch:
        patch.setattr(world.store.active, "ended", damaged)
        world.wait(1)
        world.wait(1)
    assert world.upkeep.error is not None
    world.wait(1)
    assert world.upkeep.error is None


def test_a_jump_while_the_store_fails_is_followed_later(world: World) -> None:
    world.ban()
    world.pipeline.recorder.error = StoreError("full", "free space")
    world.set_clock(DAY)
    world.wait(1)
    world.pipeline.recorder.error = None
    world.wait(1)
    assert world.in_store() == world.in_kernel() == {"ban": 3598}


def test_a_move_that_a_failing_store_broke_off_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_PIECE", 1)
    for subject in (A, "198.51.100.8", "198.51.100.9"):
        world.ban(subject, 4 * 3600.0)
    world.wait(7200)
    world.set_clock(3600)

    async def broken_off() -> None:
        running = asyncio.create_task(world.upkeep.run())
        await asyncio.sleep(0)  # one is moved
        world.store._database.connection.execute("PRAGMA query_only = 1")
        await running
        world.store._database.connection.execute("PRAGMA query_only = 0")

    asyncio.run(broken_off())
    assert world.upkeep.error
    world.wait(1)
    rows = world.store.listing.snapshots(world.moment.wall)
    assert [round(row.until - world.moment.wall) for row in rows] == [7199] * 3


@pytest.mark.parametrize("jump", [20 * DAY, -20 * DAY])
def test_what_is_allowed_and_exempt_moves_with_the_clock(world: World, jump: float) -> None:
    wall = world.moment.wall
    world.store.allowlist.allow("198.51.100.0/24", wall + 3600, "", wall)
    world.store.allowlist.allow(".example.com", 0.0, "", wall)
    world.store.unbans.unban(A, "mx", wall, wall + 3600)
    world.set_clock(jump)
    world.wait(1)
    assert world.upkeep.moves == 1
    now = world.moment.wall
    ends = {
        row.what: row.until and round(row.until - now) for row in world.store.allowlist.entries(now)
    }
    assert ends == {"198.51.100.0/24": 3599, ".example.com": 0}
    assert round(world.store.past([(A, "mx")], now)[A, "mx"].exempt_until - now) == 3599


def test_what_clients_reached_goes_into_the_store_once_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        line = f"Jan 15 08:00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.{n}]"
        world.pipeline.counting.read([line], [0], world.moment)

    def kept() -> int:
        return sum(map(len, world.store.peaks.read(world.moment.wall).highest.values()))

    world.wait(59)
    assert kept() == 0
    monkeypatch.setattr(world.store.peaks, "write", failing)
    world.wait(1)
    assert world.upkeep.error is not None
    monkeypatch.undo()
    monkeypatch.setattr(upkeep, "_PEAKS_PIECE", 1)
    monkeypatch.setattr(upkeep, "_PEAKS_PIECES", 2)
    world.wait(1)
    assert kept() == 2
    world.wait(60)
    assert (kept(), noted(world.pipeline.engine.gauges(), 9)) == (3, [])


def failing(*_: object) -> None:
    raise StoreError("no space left")


def test_drops_are_counted_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = 0
    monkeypatch.setattr(world.kernel, "dropped", lambda: counter)

    def counted() -> list[int]:
        begin = world.moment.wall - 3600
        return [
            row.count for row in world.store.hourly.read(begin, begin + 7200) if row.what == "drop"
        ]

    world.wait(1)
    counter = 7
    world.wait(30)
    assert counted() == []
    world.wait(30)
    assert counted() == [7]

    def fail() -> int:
        raise BackendError("the table is gone")

    monkeypatch.setattr(world.kernel, "dropped", fail)
    world.wait(60)
    assert (world.upkeep.error, counted()) == (None, [7])
    assert world.pipeline.skipped.counts == {}


# Senders


def test_what_senders_did_is_added_to_their_days(world: World) -> None:
    store, senders = world.store, world.pipeline.senders
    today = int(world.moment.wall // DAY)
    store.senders.add([SenderDay("account:alice", today - 1, recipients=7)])

    def send() -> None:
        message = Message("3A5C01F2B", sender="a@b.test", recipients=70, size=1)
        for kind in ("login", "active"):
            event = Event(
                kind,
                "203.0.113.7",
                "x",
                "postfix",
                1,
                world.moment.wall,
                user="alice",
                message=message,
            )
            senders.step(event, world.moment.boot)

    send()
    world.wait(1.0)
    assert [day.recipients for day in store.senders.days("account:alice")] == [7, 70]
    send()
    world.wait(1.0)
    assert [day.recipients for day in store.senders.days("account:alice")] == [7, 70]
    world.wait(60.0)
    assert [day.recipients for day in store.senders.days("account:alice")] == [7, 140]
    for _ in range(6):
        send()
    assert [report.limit for report in senders.drain()] == ["account-volume"]


def test_what_the_store_does_not_take_is_added_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = Message("3A5C01F2B", sender="a@b.test", recipients=70, size=1, uid=33)
    for kind in ("queued", "active"):
        event = Event(kind, "", "x", "p", 1, world.moment.wall, message=message)
        world.pipeline.senders.step(event, world.moment.boot)
    with monkeypatch.context() as broken:
        broken.setattr(world.store.senders, "add", refuse)
        world.wait(1.0)
    world.wait(60.0)
    assert [day.recipients for day in world.store.senders.days("uid:33")] == [70]


def refuse(_days: object) -> None:
    raise StoreError("full", "make room")


def test_what_is_stored_of_senders_is_deleted_once_they_are_switched_off(world: World) -> None:
    store, day = world.store, SenderDay("account:alice", 20_000, 1)
    store.senders.add([day])
    store.senders.report(
        [
            Report(world.moment.wall, "account:alice", "account-bounces", "x", 1, 1, 1.0, "x"),
            Report(world.moment.wall, A, "errors", "errors", 1, 1, 1.0, A),
        ]
    )
    off = Policy(accounts=Accounts(enabled=False))
    world.pipeline.reconfigure(off, world.pipeline.ladder.protection)
    world.wait(61.0)
    assert store.senders.days("account:alice") == []
    assert [report.subject for report in store.senders.reports()] == [A]
    store.senders.add([day])
    world.wait(61.0)
    assert store.senders.days("account:alice") == [day]  # once is enough
