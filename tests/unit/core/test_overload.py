"""Strangers of a scope, by admission control that drops nothing: what is asked of it, and when."""

import asyncio
import itertools
import logging
from collections.abc import Iterable, Sequence

import msgspec
import pytest

from throttled.address import pack
from throttled.clock import Moment
from throttled.core.known_good import KnownGood
from throttled.core.overload import Strangers, Wanted
from throttled.core.recorder import Recorder
from throttled.decide.protect import Protection
from throttled.enforce.admission.memory import Memory
from throttled.enforce.admission.protocol import AdmissionCounts
from throttled.enforce.sockets import Socket
from throttled.errors import BackendError
from throttled.facts import Facts
from throttled.model import Evidence
from throttled.skipped import Skipped
from throttled.store.store import Store

WANTED = Wanted("enforce", (25,), 80)
WALL = 1_700_000_000.0


class Broken(Memory):
    """Fails where a test wants it."""

    name = "broken"
    exact = True
    fails: str = ""

    def start(self, *arguments: object) -> None:
        if self.fails == "start":
            raise BackendError("no BPF here", "a newer kernel")
        super().start(*arguments)  # type: ignore[arg-type]

    def counts(self) -> AdmissionCounts:
        if self.fails == "counts":
            raise BackendError("the kernel says no", "")
        return super().counts()


@pytest.fixture
def known() -> KnownGood:
    store = Store.open(":memory:")
    good = "192.0.2.9", "192.0.2.10", "2001:db8::9"
    store.record(WALL, (), [Evidence(each, WALL, 0, 2) for each in good])
    found = KnownGood(Recorder(store, Skipped()))
    asyncio.run(found.load(at(0)))
    found.protect(Protection(Facts(), networks=("203.0.113.0/24",)))
    return found


@pytest.fixture
def means() -> list[Broken]:
    return [Broken()]


@pytest.fixture
def strangers(known: KnownGood, means: list[Broken]) -> Strangers:
    made = Strangers("mx", known, lambda: means)
    made.follow(WANTED)
    return made


def at(boot: float) -> Moment:
    return Moment(WALL + boot, boot)


def sockets(count: int, *, far: bytes = b"\xc6\x33\x64", port: int = 25) -> list[Socket]:
    return [
        Socket(2, b"%d" % n, port, far + bytes([n]), 1024, n + 1, waits=True) for n in range(count)
    ]


def drop(means: Sequence[Memory], count: int) -> None:
    means[0].current = AdmissionCounts(dropped_cap=means[0].current.dropped_cap + count)


def besiege(strangers: Strangers, means: Sequence[Memory], *, dropping: bool) -> None:
    """Let it start, and more strangers come than may, for eight seconds."""
    strangers.step(at(1), dropping=dropping)
    for n in range(32):
        drop(means, 10)
        strangers.step(at(2 + n / 4), dropping=dropping)


def test_it_starts_with_who_is_known_good(strangers: Strangers, means: list[Broken]) -> None:
    strangers.step(at(1), dropping=True)
    limits = means[0].limits
    assert (limits.cap, limits.turn, limits.dropping) == (80, 0.0, True)
    assert (limits.pace, limits.places) == (0, 10)
    assert "203.0.113.0/24" in means[0].known
    assert strangers.status().means == "broken"


def test_it_does_not_start_before_these_are_read(
    strangers: Strangers, known: KnownGood, means: list[Broken]
) -> None:
    known.read = False
    strangers.step(at(1), dropping=True)
    assert means[0].ports == ()
    assert strangers.status().why == "the known good clients are being read"


def test_changes_of_the_known_good_follow(
    strangers: Strangers, known: KnownGood, means: list[Broken]
) -> None:
    strangers.step(at(1), dropping=True)
    known.protect(Protection(Facts(), networks=("198.51.100.0/24",)))
    strangers.step(at(2), dropping=True)
    assert "198.51.100.0/24" in means[0].known
    assert "203.0.113.0/24" not in means[0].known


def test_without_dropping_known_good_clients_are_said_to_wait(
    strangers: Strangers, means: list[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    besiege(strangers, means, dropping=False)
    assert "strangers would be delayed" in caplog.text
    assert "known good clients wait behind them" in caplog.text
    assert not strangers.status().drops


def test_after_drops_turns_begin_and_it_is_said(
    strangers: Strangers, means: list[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    besiege(strangers, means, dropping=True)
    assert means[0].limits.turn > 10
    assert strangers.busy
    assert strangers.status().since == WALL + 2
    assert "overload in mx: strangers are delayed, more than 80 connections" in caplog.text
    caplog.set_level(logging.INFO)
    strangers.step(at(80), dropping=True)
    assert means[0].limits.turn == 0.0
    assert strangers.status().since == 0.0
    assert "overload in mx is over" in caplog.text


def test_means_that_count_nothing_themselves_have_a_pace_in_calm_times_too(
    strangers: Strangers, means: list[Broken]
) -> None:
    means[0].exact = False
    strangers.step(at(1), dropping=True)
    assert (means[0].limits.pace, strangers.busy) == (10, True)
    strangers.sample(sockets(30), at(1))
    strangers.step(at(1.25), dropping=True)
    assert means[0].limits.pace == 8


def test_drops_by_the_pace_are_none_by_the_cap(strangers: Strangers, means: list[Broken]) -> None:
    """These means count them together; idle sessions are ended for places above the cap only."""
    means[0].exact = False
    strangers.step(at(1), dropping=True)
    for n in range(40):
        drop(means, 10)
        strangers.sample(sockets(30), at(2 + n / 4))
        drop(means, 10)
        strangers.step(at(2 + n / 4), dropping=True)
    assert strangers.delays.delaying
    assert not strangers.delays.full
    assert strangers.delays.turn == 0.0


def test_the_pace_follows_what_postfix_accepts(strangers: Strangers, means: list[Broken]) -> None:
    strangers.step(at(1), dropping=True)
    looks = [strangers.busy]
    means[0].current = AdmissionCounts(open=41)
    strangers.step(at(1.25), dropping=True)
    looks.append(strangers.busy)
    good = sockets(3, far=b"\xcb\x00\x71")
    waiting = [one._replace(inode=0) for one in sockets(11, far=b"\xc6\x33\x65")]
    strangers.sample([*sockets(40), *good, *waiting, *sockets(50, port=587)], at(1.5))
    assert means[0].limits.places == 45
    strangers.sample(good, at(1.75))
    assert means[0].limits.places == 50
    means[0].current = AdmissionCounts(open=40)
    strangers.step(at(2), dropping=True)
    looks.append(strangers.busy)
    assert looks == [False, True, False]
    assert not strangers.starting
    means[0].current = AdmissionCounts(dropped_pace=9)
    strangers.step(at(2.25), dropping=True)
    assert (strangers.starting, strangers.busy) == (True, True)


def test_a_service_that_accepts_nothing_keeps_nobody_out_of_the_others(
    strangers: Strangers, means: list[Broken]
) -> None:
    """Its processes are all taken, or do not start; no process is being started for who waits."""
    strangers.step(at(1), dropping=True)
    strangers.follow(msgspec.structs.replace(WANTED, ports=(25, 2525)))
    found = [one._replace(inode=0) for one in sockets(20, port=2525)]
    now = 2.0
    while now < 300.0:
        strangers.sample(found, at(now))
        strangers.step(at(now), dropping=True)
        now += 0.25
    assert means[0].limits.places == 30


def test_those_that_reset_at_once_take_turns(strangers: Strangers, means: list[Broken]) -> None:
    """They are never as many as the cap, and would keep newcomers out."""
    strangers.step(at(1), dropping=True)
    for n in range(40):
        means[0].current = AdmissionCounts(admitted=250 * n, dropped_pace=2_000 * n)
        strangers.step(at(2 + n / 4), dropping=True)
    assert strangers.delays.delaying
    assert strangers.delays.turn >= 10.0
    assert means[0].limits.turn >= 10.0


def test_short_turns_count_in_tenths_of_a_second(strangers: Strangers, means: list[Broken]) -> None:
    """Of 100 networks that come three times a second each, a quarter of a second is a lot."""
    strangers.step(at(1), dropping=True)
    for n in range(80):
        counts = AdmissionCounts(admitted=75 * n, dropped_cap=100 * n, networks=100, open=80)
        means[0].current = counts
        strangers.step(at(2 + n / 4), dropping=True)
    assert 0.6 <= means[0].limits.turn < 1.0


def test_report_drops_nothing(strangers: Strangers, means: list[Broken]) -> None:
    strangers.follow(Wanted("report", (25,), 80))
    strangers.step(at(1), dropping=True)
    assert not means[0].limits.dropping
    assert strangers.status().mode == "report"


def test_where_nobody_is_known_good_it_only_reports(means: list[Broken]) -> None:
    nobody = KnownGood(Recorder(Store.open(":memory:"), Skipped()))
    nobody.read = True
    strangers = Strangers("mx", nobody, lambda: means)
    strangers.follow(WANTED)
    strangers.step(at(1), dropping=True)
    assert not means[0].limits.dropping
    assert strangers.status().why == "no client is known good yet"


def test_a_store_that_fails_admits_everybody(strangers: Strangers, means: list[Broken]) -> None:
    strangers.step(at(1), dropping=True)
    strangers.step(at(2), dropping=False)
    assert not means[0].limits.dropping
    assert strangers.status().why == "the database cannot be used"


def test_the_first_known_good_client_counts_from_the_next_step(means: list[Broken]) -> None:
    store = Store.open(":memory:")
    known = KnownGood(Recorder(store, Skipped()))
    known.read = True
    strangers = Strangers("mx", known, lambda: means)
    strangers.follow(WANTED)
    strangers.step(at(1), dropping=True)
    store.record(WALL, (), [Evidence("192.0.2.9", WALL, 0, 2)])
    asyncio.run(known.load(at(1)))
    assert strangers.status().why == ""
    strangers.step(at(2), dropping=True)
    assert means[0].limits.dropping


@pytest.mark.parametrize("wanted", [Wanted("off", (25,), 80), Wanted("enforce", (), 80)])
def test_off(strangers: Strangers, means: list[Broken], wanted: Wanted) -> None:
    strangers.step(at(1), dropping=True)
    strangers.follow(wanted)
    strangers.step(at(2), dropping=True)
    assert means[0].known == set()
    assert strangers.status().means == ""


def test_a_pool_may_not_take_the_places_of_all(means: list[Broken]) -> None:
    """Two good addresses of a /64 are cheap evidence for 2**64 of them."""
    store = Store.open(":memory:")
    two = [f"2001:db8:0:1::{n}" for n in (1, 2)]
    for day in (0, 1):
        store.record(WALL, (), [Evidence(each, WALL - day * 86400, 1) for each in two])
    known = KnownGood(Recorder(store, Skipped()))
    asyncio.run(known.load(at(0)))
    strangers = Strangers("mx", known, lambda: means)
    strangers.follow(WANTED)
    strangers.step(at(1), dropping=True)
    assert "2001:db8:0:1::/64" in means[0].known
    far = bytes.fromhex("20010db8000000010000000000000f")
    good = [one._replace(far=far[:-1] + b"\0\1") for one in sockets(50)]
    strangers.sample([*sockets(20, far=far), *good], at(2))
    strangers.step(at(2), dropping=True)
    assert "2001:db8:0:1::/64" in means[0].known
    assert strangers.open == 0
    strangers.sample([*sockets(21, far=far), *good], at(3))
    strangers.step(at(3), dropping=True)
    assert "2001:db8:0:1::/64" not in means[0].known
    assert set(two) <= set(means[0].known)
    assert strangers.open == 21
    known.tick(at(3700))
    strangers.step(at(3700), dropping=True)
    assert "2001:db8:0:1::/64" in means[0].known


def test_other_ports_start_it_again(strangers: Strangers, means: list[Broken]) -> None:
    strangers.step(at(1), dropping=True)
    strangers.follow(Wanted("enforce", (25, 2525), 80))
    strangers.step(at(2), dropping=True)
    assert means[0].ports == (25, 2525)


def test_what_fails_admits_everybody_and_is_tried_again(
    strangers: Strangers, means: list[Broken]
) -> None:
    strangers.step(at(1), dropping=True)
    means[0].fails = "counts"
    strangers.step(at(2), dropping=True)
    assert (means[0].known, strangers.status().why) == (set(), "the kernel says no")
    means[0].fails = ""
    strangers.step(at(6), dropping=True)
    assert strangers.status().means == ""
    strangers.step(at(7), dropping=True)
    assert (strangers.status().means, strangers.status().why) == ("broken", "")


def test_the_first_means_that_works_is_used(
    known: KnownGood, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Broken(), Memory()
    first.fails = "start"
    strangers = Strangers("mx", known, lambda: [first, second])
    strangers.follow(WANTED)
    with caplog.at_level(logging.INFO):
        strangers.step(at(1), dropping=True)
    assert strangers.status().means == "memory"
    assert strangers.status().unusable == ["broken: no BPF here"]
    assert "admission control in mx cannot use broken: no BPF here" in caplog.text
    first.fails = ""
    strangers.follow(msgspec.structs.replace(WANTED, ports=(2525,)))
    strangers.step(at(2), dropping=True)
    assert (strangers.status().means, strangers.status().unusable) == ("broken", [])


def test_without_any_it_says_what_each_lacks(
    strangers: Strangers, means: list[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    means.append(Broken())
    for each in means:
        each.fails = "start"
    strangers.step(at(1), dropping=True)
    strangers.step(at(60), dropping=True)
    strangers.step(at(100), dropping=True)
    why = "broken: no BPF here; broken: no BPF here"
    assert strangers.status().why == why
    assert caplog.text.count(f"everybody is admitted: {why}. a newer kernel") == 1


def test_strangers_are_counted_and_the_counter_corrected(
    strangers: Strangers, means: list[Broken]
) -> None:
    strangers.sample(sockets(3), at(1))  # before the start
    strangers.step(at(1), dropping=True)
    found = [*sockets(3), *sockets(9, far=b"\xcb\x00\x71"), *sockets(9, port=587)]
    strangers.sample(found, at(3))
    assert means[0].counts().open == 3
    assert strangers.status().open == 3


@pytest.fixture
def ended() -> list[Socket]:
    return []


@pytest.fixture
def ending(known: KnownGood, means: list[Broken], ended: list[Socket]) -> Strangers:
    """Strangers whose ended sessions are collected."""

    def end(some: Iterable[Socket]) -> int:
        before = len(ended)
        ended.extend(some)
        return len(ended) - before

    made = Strangers("mx", known, lambda: means, end)
    made.follow(WANTED)
    made.step(at(1), dropping=True)
    return made


def look(strangers: Strangers, found: Sequence[Socket], begin: float, end: float) -> None:
    """Look at the same connections each second."""
    for second in range(int(begin), int(end) + 1):
        strangers.sample(found, at(second))


def others_wait(strangers: Strangers, means: list[Broken], boot: float, count: int = 2) -> None:
    drop(means, count)
    strangers.step(at(boot), dropping=True)


def test_idle_sessions_are_ended_only_while_others_wait(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    look(ending, sockets(4), 1, 30)
    assert not ended
    others_wait(ending, means, 31)
    ending.sample(sockets(5), at(31))
    assert [one.identity for one in ended] == [b"0", b"1"]  # two wait; the fifth is new
    assert ending.status().ended == 2


def test_networks_whose_sessions_were_ended_without_a_message_have_to_wait(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    silent, letter, half, queued = (
        sockets(1, far=bytes([198, 51, n]))[0]._replace(identity=bytes([n])) for n in range(4)
    )
    letter = letter._replace(received=1_000)
    half = half._replace(received=1_000, waits=False)
    found = [silent, letter, half, queued._replace(inode=0)]
    look(ending, found, 1, 90)
    others_wait(ending, means, 91, 20)
    ending.sample(found, at(91))
    assert len(ended) == 4
    assert means[0].postponed == {silent.far, half.far}


def test_who_is_never_accepted_has_a_minute_while_others_wait(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    found = [one._replace(inode=0) for one in sockets(3)]
    look(ending, found, 1, 60)
    others_wait(ending, means, 60)
    ending.sample(found, at(60.5))
    assert not ended
    look(ending, found, 61, 62)
    assert len(ended) == 4


def test_idle_sessions_are_ended_for_known_good_clients_that_wait_for_a_process(
    ending: Strangers, ended: list[Socket]
) -> None:
    """Known good clients have more than the reserve, so that strangers never reach the cap."""
    good, elsewhere = sockets(2, far=b"\xcb\x00\x71"), sockets(1, far=b"\xc6\x33\x65", port=2525)
    ending.follow(msgspec.structs.replace(WANTED, ports=(25, 2525)))
    ending.step(at(1), dropping=True)
    look(ending, [*sockets(4), *elsewhere], 1, 30)
    waiting = [good[0]._replace(inode=0, identity=b"good")]
    ending.sample([*sockets(4), *elsewhere, *waiting], at(30.5))
    assert not ended
    ending.sample([*sockets(4), *elsewhere, *waiting], at(31.5))
    assert [one.identity for one in ended] == [b"0"]


@pytest.mark.parametrize(
    ("far", "count", "expected"),
    [
        (("192.0.2.9", "192.0.2.10"), 20, 0),  # a large sender
        (("192.0.2.9", "192.0.2.10"), 21, 1),  # or one that was cheap to make known good
        (("2001:db8::9",), 21, 1),
        (("203.0.113.5",), 60, 0),  # protected
    ],
)
def test_known_good_clients_do_not_keep_out_the_others(
    ending: Strangers, ended: list[Socket], far: Sequence[str], count: int, expected: int
) -> None:
    fars = itertools.cycle(map(pack, far))
    found = [one._replace(far=next(fars)) for one in sockets(count)]
    look(ending, found, 1, 30)
    own = found[0]._replace(inode=0, identity=b"own")
    other = own._replace(far=pack("203.0.113.6"), identity=b"other")
    look(ending, [*found, own], 31, 33)
    assert not ended
    look(ending, [*found[:-1], other], 34, 34)
    ending.sample([*found, other], at(34.9))
    assert not ended
    ending.sample([*found, other], at(35.1))
    assert len(ended) == expected


def test_none_are_ended_below_the_cap_for_strangers_that_wait_for_a_process(
    ending: Strangers, ended: list[Socket]
) -> None:
    waiting = [one._replace(inode=0) for one in sockets(3, far=b"\xc6\x33\x65")]
    look(ending, [*sockets(3), *waiting], 1, 300)
    assert not ended


def test_time_that_postfix_needs_is_not_the_clients(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    """A policy service, or a look-up, takes 20 seconds; then Postfix replies."""
    replied = [one._replace(received=200) for one in sockets(1)]
    look(ending, [one._replace(waits=False) for one in replied], 1, 20)
    others_wait(ending, means, 21)
    look(ending, replied, 21, 23)
    assert not ended
    others_wait(ending, means, 33)
    look(ending, replied, 24, 33)
    assert ended


def test_a_daemon_that_was_stopped_ends_nobody_for_that(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    talking = [one._replace(received=200) for one in sockets(1)]
    ending.sample(talking, at(1))
    others_wait(ending, means, 31)
    ending.sample(talking, at(31))
    assert not ended


def test_who_waits_for_the_rest_of_a_greeting_is_not_silent(
    ending: Strangers, means: list[Broken], ended: list[Socket]
) -> None:
    ending.follow(Wanted("enforce", (25,), 80, greeting=8.0))
    look(ending, sockets(1), 1, 10)
    others_wait(ending, means, 10)
    look(ending, sockets(1), 10, 11)
    assert not ended
    look(ending, sockets(1), 12, 13)
    assert ended
